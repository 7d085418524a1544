"""The machine and the versions that a measurement was made with."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rms_deploy.runtime.gpus import gpus

__all__ = ["Machine", "machine", "versions"]

_PACKAGES = ("rms-deploy", "onnxruntime", "onnxruntime-gpu", "onnx", "numpy", "torch", "openvino", "tritonclient")


@dataclass(frozen=True)
class Machine:
    """What decides a latency besides the model."""

    cpu: str
    cores: int
    """Logical ones."""
    usable_cores: int
    """Those that this process may run on."""
    system: str
    load: float
    """Processes that wanted to run in the minute before: above 0.5 or so, others disturb the measurement."""
    gpus: tuple[str, ...] = ()
    """Names of the NVIDIA GPUs."""

    @property
    def hardware(self) -> str:
        """Processor, cores and GPUs."""
        return ", ".join((self.cpu, f"{self.usable_cores} of {self.cores} cores", *self.gpus))


def machine() -> Machine:
    """This machine, now."""
    cores = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    return Machine(
        _cpu(), cores, usable, platform.platform(), round(os.getloadavg()[0], 2), tuple(gpu.name for gpu in gpus())
    )


def versions() -> dict[str, str]:
    """Version of Python and of each installed package that a latency depends on."""
    found = {"python": platform.python_version(), **{package: _version(package) for package in _PACKAGES}}
    return {name: number for name, number in found.items() if number is not None}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
