"""The NVIDIA GPUs of this machine, as its driver lists them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

__all__ = ["Gpu", "gpus"]


@dataclass(frozen=True)
class Gpu:
    """One GPU."""

    name: str
    capability: str
    """Such as sm120."""
    memory_mib: int
    driver: str


def gpus() -> tuple[Gpu, ...]:
    """The GPUs that nvidia-smi lists; none where there is no driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    query = "--query-gpu=name,compute_cap,memory.total,driver_version"
    try:
        listed = subprocess.run(
            [tool, query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = (tuple(field.strip() for field in line.split(",")) for line in listed.stdout.splitlines())
    return tuple(
        Gpu(row[0], f"sm{row[1].replace('.', '')}", int(row[2]) if row[2].isdigit() else 0, row[3])
        for row in rows
        if len(row) == 4
    )
