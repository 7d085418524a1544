"""The memory that a comparison may take."""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import onnx_ir as ir

from rms_deploy.ops.element_types import is_float
from rms_deploy.ops.nodes import all_graphs

__all__ = ["deployed_bytes", "free_memory", "gib", "return_freed", "return_pages"]

_MEMINFO: Final = Path("/proc/meminfo")
_CGROUP: Final = Path("/sys/fs/cgroup")

_FLOAT32: Final = 4
"""Bytes of an element."""


def free_memory() -> float:
    """Bytes that are free now, on the machine and within the limit of the container; infinite where nothing says so."""
    return min(_of_machine(), _of_container())


def gib(nbytes: float) -> str:
    """A number of bytes for people."""
    return f"{nbytes / 2**30:.2g} GiB"


def deployed_bytes(model: ir.Model) -> int:
    """An estimate of the bytes that ONNX Runtime takes on the CPU for the weights of a model.

    It has a copy of each in the order that its kernels read, in float32 where the weight is narrower. A weight that is
    in no data file is held by the model, and by ONNX Runtime while it reads it, besides.
    """
    total = 0
    for graph in all_graphs([model.graph]):
        for tensor in (value.const_value for value in graph.initializers.values()):
            if tensor is not None and tensor.dtype != ir.DataType.STRING:
                dtype = np.dtype(tensor.dtype.numpy())
                total += tensor.size * max(dtype.itemsize, _FLOAT32 if is_float(dtype) else 0)
                total += 0 if isinstance(tensor, ir.ExternalTensor) else 2 * tensor.nbytes
    return total


def return_freed() -> None:
    """Return what was freed to the system.

    The allocator of glibc keeps blocks below 32 MiB for later calls. Of a large model these are gigabytes.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone
        if trim is not None:
            trim(0)


def return_pages(tensors: Iterable[ir.TensorProtocol]) -> None:
    """Return the pages of tensors that are mapped from files. They are read again when they are needed again."""
    if sys.platform == "linux":
        for tensor in tensors:
            if isinstance(tensor, ir.ExternalTensor) and tensor.raw is not None:
                tensor.raw.madvise(mmap.MADV_DONTNEED)


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
