"""What is timed: functions of tensors (x, scale, y) that enqueue one norm on the current stream.

x is (rows, n), normalised over n, or (outer, n, inner), normalised over its channels. A function writes y, or returns
another tensor.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import torch
import triton
import triton.language as tl
from torch.nn import functional

from rms_deploy.ops.contract import ELEMENT_TYPES

__all__ = ["EPSILON", "Enqueue", "build", "load", "peers"]

Enqueue = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Any]
EPSILON = 1e-6
TACTICS = {"ours, 1 pack": 1, "ours, 2 packs": 2, "ours, 4 packs": 4, "ours, 8 packs": 8, "ours, split": 16}


def _nvcc() -> Path:
    spec = util.find_spec("nvidia")
    for root in spec.submodule_search_locations or [] if spec else []:
        if (found := Path(root) / "cu13" / "bin" / "nvcc").exists():
            return found
    if (system := shutil.which("nvcc")) is None:
        raise SystemExit("no nvcc: install a CUDA toolkit, or nvidia-cuda-nvcc and its companions of pyproject.toml")
    return Path(system)


def build(folder: Path) -> Path:
    """A library of the kernels for this machine's GPU, behind entry.cpp."""
    here, nvcc = Path(__file__).parent, _nvcc()
    plugins, image = here.parents[1] / "plugins", folder / "norm.fatbin"
    kernels, include = plugins / "kernels" / "cuda", f"-I{plugins}"
    options = ["-std=c++17", "-O3", "-arch=native", "-fatbin", include]
    subprocess.run([nvcc, *options, kernels / "norm.cu", "-o", image], check=True)
    options = ["-std=c++17", "-O3", "-shared", "-fPIC", include, "-DRMS_DEPLOY_CUDA_DRIVER=12000"]
    options += [f'-DRMS_DEPLOY_CUDA_IMAGE="{image}"', "-ldl", "-o", str(folder / "norm.so")]
    sources = [path for path in sorted(kernels.glob("*.cpp")) if not path.name.startswith("gradient")]
    subprocess.run(["g++", *sources, here / "entry.cpp", *options], check=True)
    return folder / "norm.so"


def load(built: Path, *, launches_early: bool) -> ctypes.CDLL:
    """A copy of the library, which reads the environment at its first launch."""
    path = shutil.copy(built, built.with_name(f"norm_{launches_early:d}.so"))
    library = ctypes.CDLL(path)
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    library.norm.argtypes = [ctypes.c_int, *[pointer] * 5, size, size, size, ctypes.c_int, ctypes.c_int, pointer]
    library.general.argtypes = [*[ctypes.c_int] * 5, *[pointer] * 6, size, size, ctypes.c_float, pointer]
    if error := library.prepare():
        raise SystemExit(f"prepare: CUresult {error}")
    os.environ["RMS_DEPLOY_PROGRAMMATIC_LAUNCH"] = f"{launches_early:d}"
    x = torch.zeros(1, 8, device="cuda")
    _ours(library, 0)(x, x[0], x)
    return library


def _ours(library: ctypes.CDLL, tactic: int) -> Enqueue:
    def enqueue(x: torch.Tensor, scale: torch.Tensor, y: torch.Tensor) -> None:
        number = ELEMENT_TYPES[str(x.dtype).removeprefix("torch.")]
        stream = torch.cuda.current_stream().cuda_stream
        pointers = x.data_ptr(), None, scale.data_ptr(), y.data_ptr(), None
        if error := library.norm(number, *pointers, *x.shape[:2], x[0, 0].numel(), 0, tactic, stream):
            raise SystemExit(f"launch: CUresult {error}")

    return enqueue


@triton.jit
def _triton_kernel(x_ptr, scale_ptr, y_ptr, n, epsilon, block: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    row = tl.program_id(0).to(tl.int64) * n
    columns = tl.arange(0, block)
    inside = columns < n
    x = tl.load(x_ptr + row + columns, mask=inside, other=0.0).to(tl.float32)
    scale = tl.load(scale_ptr + columns, mask=inside, other=0.0).to(tl.float32)
    inverse = 1.0 / tl.sqrt(tl.sum(x * x, axis=0) / n + epsilon)
    tl.store(y_ptr + row + columns, (x * inverse * scale).to(y_ptr.dtype.element_ty), mask=inside)


def _triton(x: torch.Tensor, scale: torch.Tensor, y: torch.Tensor) -> None:
    block = triton.next_power_of_2(x.shape[1])
    warps = min(16, max(1, block * x.element_size() // 2048))
    _triton_kernel[(x.shape[0],)](x, scale, y, x.shape[1], EPSILON, block=block, num_warps=warps)


def _flashinfer() -> Enqueue:
    from flashinfer.norm import rmsnorm

    return lambda x, scale, y: rmsnorm(x, scale, EPSILON, out=y)


def _quack() -> Enqueue:
    from quack import rmsnorm

    return lambda x, scale, y: rmsnorm(x, scale, eps=EPSILON)  # noqa: ARG005


def _liger() -> Enqueue:
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    return lambda x, scale, y: LigerRMSNormFunction.apply(x, scale, EPSILON)  # noqa: ARG005


def _vllm() -> Enqueue:
    from vllm import _custom_ops

    return lambda x, scale, y: _custom_ops.rms_norm(y, x, scale, EPSILON)


_INSTALLED = {"flashinfer": _flashinfer, "quack": _quack, "liger": _liger, "vllm": _vllm}
"""Peers that are run if they are installed."""


def _installed(name: str, make: Callable[[], Enqueue]) -> dict[str, Enqueue]:
    try:
        return {name: make()}
    except ImportError as error:
        print(f"{name}: not run: {error}")
        return {}


def _torch(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    if x.ndim == 2:
        return functional.rms_norm(x, (x.shape[1],), scale, EPSILON)
    wide = x.float()
    inverse = torch.rsqrt(wide.square().mean(1, keepdim=True) + EPSILON)
    return (wide * inverse * scale[:, None].float()).to(x.dtype)


def peers(library: ctypes.CDLL, early: ctypes.CDLL, *, rows: bool) -> dict[str, Enqueue]:
    """By name, of rows or of channels; 'copy' is the limit. torch.compile is compiled anew for each shape."""
    torch.compiler.reset()
    compiled = torch.compile(_torch, dynamic=False, fullgraph=True)
    of_both: dict[str, Enqueue] = {
        "copy": lambda x, scale, y: y.copy_(x),  # noqa: ARG005
        "ours": _ours(library, 0),
        "ours, early": _ours(early, 0),
        "torch": lambda x, scale, y: _torch(x, scale),  # noqa: ARG005
        "torch.compile": lambda x, scale, y: compiled(x, scale),  # noqa: ARG005
    }
    if not rows:
        return of_both
    return {
        **of_both,
        **{name: _ours(library, tactic) for name, tactic in TACTICS.items()},
        "triton": _triton,
        **{name: enqueue for item in _INSTALLED.items() for name, enqueue in _installed(*item).items()},
    }
