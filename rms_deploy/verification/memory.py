"""The memory that a comparison may take."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

__all__ = ["free_memory", "gib"]

_MEMINFO: Final = Path("/proc/meminfo")
_CGROUP: Final = Path("/sys/fs/cgroup")


def free_memory() -> float:
    """Bytes that are free now, on the machine and within the limit of the container; infinite where nothing says so."""
    return min(_of_machine(), _of_container())


def gib(nbytes: float) -> str:
    """A number of bytes for people."""
    return f"{nbytes / 2**30:.2g} GiB"


def _of_machine() -> float:
    if not _MEMINFO.is_file():
        return math.inf
    lines = (line.split() for line in _MEMINFO.read_text().splitlines())
    return next((1024.0 * int(line[1]) for line in lines if line[0] == "MemAvailable:"), math.inf)


def _of_container() -> float:
    """What cgroup v2 leaves to this container."""
    limit, used = _CGROUP / "memory.max", _CGROUP / "memory.current"
    if not limit.is_file() or not used.is_file() or limit.read_text().strip() == "max":
        return math.inf
    return max(0.0, float(limit.read_text()) - float(used.read_text()))
