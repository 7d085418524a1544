"""The NVIDIA GPUs that a program started here can use, as the driver's own library lists them.

It is there wherever a program can use a GPU: also in containers and on Jetson, which may have no nvidia-smi. It heeds
CUDA_VISIBLE_DEVICES. Asking it initialises CUDA in this process, as the runtimes do that are used next.
"""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Gpu", "gpu_problem", "gpus"]

_OLDEST_DRIVER: Final = 12000
"""As cuDriverGetVersion counts: CUDA 12.0, which drivers have from 525 on. plugins/cmake/cuda.cmake has the same."""
_MAJOR, _MINOR = 75, 76  # of CUdevice_attribute: the compute capability
_KERNEL_MODULE: Final = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Gpu:
    """One GPU."""

    name: str
    capability: str
    """Such as sm120."""
    memory_mib: int
    driver: str
    """Such as 580.65.06 (CUDA 13.0); CUDA 13.0 alone where the system does not say the driver's own number."""


def gpus() -> tuple[Gpu, ...]:
    """The GPUs that the driver lists, in its order; none where `gpu_problem` says why."""
    driver = _opened()
    return () if isinstance(driver, str) or driver.start() else driver.gpus()


def gpu_problem() -> str:
    """Why our kernels run on no GPU here, in one line: the driver is absent, too old, fails, or lists none.

    Empty: they can.
    """
    driver = _opened()
    if isinstance(driver, str):
        return driver
    if driver.version < _OLDEST_DRIVER:
        return (
            f"the NVIDIA driver is {driver.text}; our kernels need CUDA {_version_text(_OLDEST_DRIVER)}: "
            "install driver 525 or newer"
        )
    return driver.start()


class _Driver:
    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.version = self._number("cuDriverGetVersion")
        release, cuda = _release(), f"CUDA {_version_text(self.version)}"
        self.text = f"{release} ({cuda})" if release else cuda

    def start(self) -> str:
        """What is wrong with it, in one line."""
        error = self._library.cuInit(0)
        if error:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(error, ctypes.byref(text))
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            hint = "" if visible is None else f"; CUDA_VISIBLE_DEVICES is {visible!r}"
            return f"the NVIDIA driver {self.text} finds no GPU that it can use: {(text.value or b'').decode()}{hint}"
        return "" if self._number("cuDeviceGetCount") else f"the NVIDIA driver {self.text} lists no GPU"

    def gpus(self) -> tuple[Gpu, ...]:
        return tuple(self._gpu(ordinal) for ordinal in range(self._number("cuDeviceGetCount")))

    def _gpu(self, ordinal: int) -> Gpu:
        device = self._number("cuDeviceGet", ordinal)
        name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
        self._library.cuDeviceGetName(name, len(name), device)
        self._library.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        capability = "".join(str(self._number("cuDeviceGetAttribute", which, device)) for which in (_MAJOR, _MINOR))
        return Gpu(name.value.decode(errors="replace"), f"sm{capability}", memory.value >> 20, self.text)

    def _number(self, function: str, *arguments: int) -> int:
        number = ctypes.c_int()
        getattr(self._library, function)(ctypes.byref(number), *arguments)
        return number.value


def _opened() -> _Driver | str:
    """The driver; or why there is none."""
    try:
        return _Driver(ctypes.CDLL("libcuda.so.1"))
    except OSError as error:
        if release := _release():
            return (
                f"the NVIDIA driver {release} of this machine cannot be used here ({error}); "
                "a container has to be started with the GPUs"
            )
        return f"there is no NVIDIA driver here ({error})"


def _release() -> str:
    """The number of the driver's kernel module; empty where the system does not say it."""
    try:
        text = _KERNEL_MODULE.read_text()
    except OSError:
        return ""
    found = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\d[\d.]*)", text)
    return found[1] if found else ""


def _version_text(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
