"""The compiled norms on an NVIDIA GPU: when they can run, and what a call needs there besides the tensors.

The kernels are launched on torch's current stream. A call allocates by torch alone and waits for nothing, so a CUDA
graph can capture it. `plugins/torch/api.h` is the interface.
"""

from __future__ import annotations

from rms_deploy.ops import torch_check  # noqa: F401 - first: it says what is missing

# isort: split
import ctypes
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torch import Tensor

__all__ = ["check", "declare", "is_ready", "on_device", "stream", "workspace", "workspace_bytes"]

_HERE: AbstractContextManager[None] = nullcontext()


def declare(library: ctypes.CDLL) -> None:
    """The signatures of the library's functions for a GPU; a library that was built without CUDA has none."""
    if not _has_kernels(library):
        return
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    library.rms_deploy_torch_cuda_text.restype = ctypes.c_char_p
    library.rms_deploy_torch_cuda_workspace.argtypes = (pointer, size, ctypes.c_int32, ctypes.POINTER(size))
    library.rms_deploy_torch_cuda_forward.argtypes = (pointer, size, *[pointer] * 6)
    library.rms_deploy_torch_cuda_backward.argtypes = (pointer, size, *[pointer] * 8)


def is_ready(library: ctypes.CDLL, device: int) -> bool:
    """Whether the kernels run on a device; the first call loads them there.

    False while a stream is captured before that: nothing may be loaded then.
    """
    if device not in _answers(library):
        if not _has_kernels(library) or torch.version.cuda is None:
            return False
        if torch.cuda.is_current_stream_capturing():
            return False
        with on_device(device):
            _answers(library)[device] = library.rms_deploy_torch_cuda_prepare() == 0
    return _answers(library)[device]


def on_device(device: int) -> AbstractContextManager[object]:
    """Makes a device the current one, where it is not."""
    return _HERE if torch.cuda.current_device() == device else torch.cuda.device(device)


def stream(device: int) -> int:
    """torch's current stream on a device, as a cudaStream_t."""
    handle: int = torch._C._cuda_getCurrentRawStream(device)
    return handle


def workspace_bytes(library: ctypes.CDLL, norm: int, outer: int, device: int) -> int:
    """Bytes that the gradient of scale needs; `norm` is the address of a RmsDeployTorchNorm."""
    size = ctypes.c_int64()
    check(library, library.rms_deploy_torch_cuda_workspace(norm, outer, device, ctypes.byref(size)))
    return size.value


def workspace(size: int, like: Tensor) -> Tensor:
    """So many bytes beside a tensor, from torch's allocator."""
    return torch.empty(size, dtype=torch.uint8, device=like.device)


def check(library: ctypes.CDLL, error: int) -> None:
    if error:
        raise RuntimeError(f"CUDA: {library.rms_deploy_torch_cuda_text(error).decode()}")


def _has_kernels(library: ctypes.CDLL) -> bool:
    return hasattr(library, "rms_deploy_torch_cuda_prepare")


@cache
def _answers(library: ctypes.CDLL) -> dict[int, bool]:  # noqa: ARG001 - one for each library
    """Whether the kernels run, for each device that was asked for."""
    return {}
