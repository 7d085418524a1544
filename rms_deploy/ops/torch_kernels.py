"""The compiled norms of torch's eager mode, `librms_deploy_torch.so`: what they serve, and the calls.

They read x once from memory where torch's operators pass over it some ten times. `plugins/torch/api.h` is the
interface. They serve the CPU and, where the axes are the last ones, NVIDIA GPUs. Where they do not serve (another
device or dtype, no library, tensors that stand for others), the caller goes on in torch operators.
"""

from __future__ import annotations

from rms_deploy.ops import torch_check  # noqa: F401 - first: it says what is missing

# isort: split
import ctypes
import math
import os
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rms_deploy.errors import InputError, InstallationError
from rms_deploy.libraries import torch_library
from rms_deploy.ops import torch_cuda
from rms_deploy.ops.axes import normalized_axes

__all__ = ["Plan", "backward", "forward", "forward_of_sum", "is_plain", "plan_of"]

_VERSION = 3
_CPU = -1  # as torch numbers devices
_ELEMENT_TYPES = {torch.float32: 1, torch.float16: 10, torch.bfloat16: 16}
_SMALLEST_NORMAL = torch.finfo(torch.float32).tiny
_LARGEST = torch.finfo(torch.float32).max
_PLAIN = (Tensor, torch.nn.Parameter)

_under_functorch = torch._C._are_functorch_transforms_active
_is_legacy_batched = torch._C._functorch.is_legacy_batchedtensor  # what `is_grads_batched` makes
_threads = torch.get_num_threads


class _Norm(ctypes.Structure):
    _fields_ = (
        ("n", ctypes.c_int64),
        ("inner", ctypes.c_int64),
        ("statistics_size", ctypes.c_int64),
        ("type", ctypes.c_int32),
        ("scale_type", ctypes.c_int32),
        ("scalar_scale", ctypes.c_int32),
        ("round_before_scale", ctypes.c_int32),
        ("round_reciprocal", ctypes.c_int32),
        ("epsilon", ctypes.c_float),
        ("rms_epsilon", ctypes.c_float),
        ("rms_min", ctypes.c_float),
    )


class Plan(NamedTuple):
    """What a call needs besides its tensors."""

    norm: _Norm
    address: int
    outer: int
    options: tuple[Any, ...]  # axes ... partial_size, as in `plan_of`
    forward: Any
    backward: Any
    library: ctypes.CDLL
    device: int  # of CUDA; -1: the CPU
    workspace_bytes: int  # of a GPU


def plan_of(
    x: Tensor,
    scale: Tensor,
    axes: Sequence[int],
    epsilon: float,
    rms_epsilon: float,
    rms_min: float,
    round_before_scale: bool,
    round_reciprocal: bool,
    partial_size: int | None = None,
) -> Plan | None:
    """The plan of a norm of these tensors; None: the library does not serve it."""
    if not is_plain(x) or not is_plain(scale) or _under_functorch():
        return None
    device = x.get_device()
    if scale.get_device() != device or (device != _CPU and not _is_ready(device)):
        return None
    options = (tuple(axes), epsilon, rms_epsilon, rms_min, round_before_scale, round_reciprocal, partial_size)
    return _plan(x.shape, x.dtype, scale.shape, scale.dtype, options, device)


def is_plain(x: Tensor) -> bool:
    """Whether x is memory of the CPU or of a GPU, and no subclass, fake or wrapper."""
    known = type(x) in _PLAIN and (x.is_cpu or x.is_cuda) and x.layout is torch.strided
    return known and not x.is_neg() and not _is_legacy_batched(x)


def _is_ready(device: int) -> bool:
    library = _library()
    return library is not None and torch_cuda.is_ready(library, device)


@lru_cache(maxsize=4096)
def _plan(
    shape: torch.Size,
    dtype: torch.dtype,
    scale_shape: torch.Size,
    scale_dtype: torch.dtype,
    options: tuple[Any, ...],
    device: int,
) -> Plan | None:
    axes, epsilon, rms_epsilon, rms_min, round_before_scale, round_reciprocal, partial_size = options
    library = _library()
    if library is None or dtype not in _ELEMENT_TYPES or scale_dtype not in (dtype, torch.float32):
        return None
    block = normalized_axes(axes, len(shape))
    sizes = [shape[axis] for axis in block]
    n, inner = math.prod(sizes), math.prod(shape[block[-1] + 1 :])
    full = [*sizes, *[1] * (len(shape) - 1 - block[-1])]  # the shape of a scale of n elements
    held = all(value == 0 or _SMALLEST_NORMAL <= value <= _LARGEST for value in (epsilon, rms_epsilon, rms_min))
    scalar = scale_shape.numel() == 1
    one_each = [1] * (len(scale_shape) - len(full)) + full == list(scale_shape)
    k = n if partial_size is None else partial_size
    if not shape.numel() or not held or not (scalar or one_each) or not 1 <= k <= n:
        return None
    if device != _CPU and inner > 1:
        return None
    types = (_ELEMENT_TYPES[dtype], _ELEMENT_TYPES[scale_dtype])
    norm = _Norm(n, inner, k, *types, scalar, round_before_scale, round_reciprocal, epsilon, rms_epsilon, rms_min)
    outer = math.prod(shape[: block[0]])
    address = ctypes.addressof(norm)
    if device == _CPU:
        calls = (library.rms_deploy_torch_forward, library.rms_deploy_torch_backward)
        return Plan(norm, address, outer, options, *calls, library, device, 0)
    calls = (library.rms_deploy_torch_cuda_forward, library.rms_deploy_torch_cuda_backward)
    size = torch_cuda.workspace_bytes(library, address, outer, device)
    return Plan(norm, address, outer, options, *calls, library, device, size)


def forward(plan: Plan, x: Tensor, scale: Tensor) -> Tensor:
    """y. Both tensors are contiguous."""
    y = torch.empty_like(x)
    _call(plan, plan.forward, x.data_ptr(), None, scale.data_ptr(), y.data_ptr(), None)
    return y


def forward_of_sum(plan: Plan, x: Tensor, residual: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """y and the sum. All tensors are contiguous."""
    y, total = torch.empty_like(x), torch.empty_like(x)
    _call(plan, plan.forward, x.data_ptr(), residual.data_ptr(), scale.data_ptr(), y.data_ptr(), total.data_ptr())
    return y, total


def backward(
    plan: Plan,
    x: Tensor,
    scale: Tensor,
    grad: Tensor,
    grad_total: Tensor | None = None,
    wants_x: bool = True,
    wants_scale: bool = True,
) -> tuple[Tensor | None, Tensor | None]:
    """dL/dx, to which grad_total is added, and dL/dscale. x and scale are contiguous, and x is what was normalised."""
    if not grad.is_contiguous():
        grad = grad.contiguous()
    if grad_total is not None and not grad_total.is_contiguous():
        grad_total = grad_total.contiguous()
    grad_x = torch.empty_like(x) if wants_x else None
    grad_scale = torch.empty_like(scale) if wants_scale else None
    pointers = [
        x.data_ptr(),
        scale.data_ptr(),
        grad.data_ptr(),
        None if grad_total is None else grad_total.data_ptr(),
        None if grad_x is None else grad_x.data_ptr(),
        None if grad_scale is None else grad_scale.data_ptr(),
    ]
    if plan.device == _CPU:
        _call(plan, plan.backward, *pointers)
    else:
        workspace = torch_cuda.workspace(plan.workspace_bytes, x) if wants_scale else None
        _call(plan, plan.backward, *pointers, None if workspace is None else workspace.data_ptr())
    return grad_x, grad_scale


def _call(plan: Plan, function: Any, *pointers: int | None) -> None:
    if plan.device == _CPU:
        if function(plan.address, plan.outer, _threads(), *pointers):
            raise MemoryError("no memory for the scratch of a norm")
        return
    with torch_cuda.on_device(plan.device):
        error = function(plan.address, plan.outer, torch_cuda.stream(plan.device), *pointers)
    torch_cuda.check(plan.library, error)


@cache
def _library() -> ctypes.CDLL | None:
    """Loaded once; None: not built, or the CPU has no kernel.

    Raises:
        InstallationError: it cannot be loaded, or is of another version than this module.
    """
    try:
        path = torch_library()
    except InstallationError:
        return None
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise InstallationError(f"{path}: cannot be loaded: {error}") from error
    if (version := library.rms_deploy_torch_version()) != _VERSION:
        raise InstallationError(f"{path}: is of version {version}, {_VERSION} is needed; reinstall rms-deploy")
    library.rms_deploy_torch_problem.restype = ctypes.c_char_p
    problem = library.rms_deploy_torch_problem()
    if problem is not None:
        if os.environ.get("RMS_DEPLOY_ISA"):
            raise InputError(problem.decode())
        return None
    call = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32)
    library.rms_deploy_torch_forward.argtypes = (*call, *[ctypes.c_void_p] * 5)
    library.rms_deploy_torch_backward.argtypes = (*call, *[ctypes.c_void_p] * 6)
    torch_cuda.declare(library)
    return library
