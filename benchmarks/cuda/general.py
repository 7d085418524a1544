"""Time on a GPU of what the kernels for gated and general rows do, beside torch and what else is installed.

    python benchmarks/cuda/general.py --output benchmarks/cuda/general.json

As bench.py times: replays of a CUDA graph over tensors that together are larger than the L2. `% of memory` is of the
time in which a copy would move the same bytes.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from bench import buffers_of, microseconds
from peers import EPSILON, build, load
from torch import Tensor
from torch.nn import functional

from rms_deploy.ops.contract import ELEMENT_TYPES, QUANTIZED_TYPES
from rms_deploy.runtime.gpus import gpus

SHAPES = ((65536, 128), (32768, 1024), (4096, 4096), (4096, 5120), (4096, 8192), (1, 4096))
Y_SCALE = 0.02
Tensors = tuple[Tensor, Tensor, Tensor, Tensor]
"""x; z or the residual; scale; shift."""

Outputs = tuple[Tensor, Tensor]
"""y and the sum."""

Enqueue = Callable[[Tensors, Outputs], Any]


def _normed(x: Tensor, scale: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON) * scale.to(x.dtype)


@dataclass(frozen=True)
class Case:
    """One kind of norm. `y_of` gives y in the dtype that x, z, scale and shift have, before it is quantised."""

    y_of: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    gate: int = 0  # of contract.h
    is_add: bool = False
    sums_in_float32: bool = False
    residual_is_float32: bool = False
    has_shift: bool = False
    codes: str = ""

    @property
    def code_dtype(self) -> torch.dtype:
        return torch.int8 if self.codes == "int8" else torch.float8_e4m3fn

    def y_dtype(self, dtype: torch.dtype) -> torch.dtype:
        return self.code_dtype if self.codes else dtype

    def operand_dtype(self, dtype: torch.dtype) -> torch.dtype:
        return torch.float32 if self.residual_is_float32 else dtype

    def bytes_of(self, dtype: torch.dtype) -> int:
        """For an element: x is read, y is written, z or the residual is read and the sum is written."""
        operands = 2 if self.is_add else 1 if self.gate else 0
        return dtype.itemsize + self.y_dtype(dtype).itemsize + operands * self.operand_dtype(dtype).itemsize

    def eager(self, tensors: Tensors) -> Any:
        x, operand, scale, shift = tensors
        total = x.float() + operand.float() if self.is_add else x.float()
        source = total if self.sums_in_float32 else total.to(x.dtype).float()
        y = self.y_of(source, operand.float(), scale.float(), shift.float()).to(x.dtype)
        if self.codes == "int8":
            y = torch.round(y.float() / Y_SCALE).clamp(-128, 127).to(torch.int8)
        elif self.codes:
            y = (y.float() / Y_SCALE).clamp(-448, 448).to(torch.float8_e4m3fn)
        return (y, total.to(operand.dtype)) if self.is_add else y


CASES = {
    "silu gate behind": Case(lambda x, z, scale, _: _normed(x, scale) * functional.silu(z), gate=1),
    "silu gate in front": Case(lambda x, z, scale, _: _normed(x * functional.silu(z), scale), gate=2),
    "shift": Case(lambda x, _, scale, shift: _normed(x, scale) + shift, has_shift=True),
    "float32 residual": Case(lambda x, _, scale, __: _normed(x, scale), is_add=True, residual_is_float32=True),
    "float32 sum": Case(lambda x, _, scale, __: _normed(x, scale), is_add=True, sums_in_float32=True),
    "int8": Case(lambda x, _, scale, __: _normed(x, scale), codes="int8"),
    "float8": Case(lambda x, _, scale, __: _normed(x, scale), codes="float8e4m3fn"),
    "float8, add": Case(lambda x, _, scale, __: _normed(x, scale), is_add=True, codes="float8e4m3fn"),
}


def _ours(library: ctypes.CDLL, case: Case) -> Enqueue:
    def enqueue(tensors: Tensors, outputs: Outputs) -> None:
        x, operand, scale, shift = tensors
        y, total = outputs
        types = [ELEMENT_TYPES[str(tensor.dtype).removeprefix("torch.")] for tensor in (x, operand)]
        parts = (QUANTIZED_TYPES.get(case.codes, 0), case.gate, case.sums_in_float32)
        inputs = (
            x.data_ptr(),
            operand.data_ptr() if case.is_add or case.gate else None,
            scale.data_ptr(),
            shift.data_ptr() if case.has_shift else None,
        )
        pointers = (*inputs, y.data_ptr(), total.data_ptr() if case.is_add else None)
        stream = torch.cuda.current_stream().cuda_stream
        if error := library.general(*types, *parts, *pointers, *x.shape, ctypes.c_float(Y_SCALE), stream):
            raise SystemExit(f"launch: CUresult {error}")

    return enqueue


def _fla() -> Enqueue:
    from fla.modules.fused_norm_gate import rms_norm_gated

    return lambda tensors, _: rms_norm_gated(*tensors[:3], None, eps=EPSILON)


def _mamba() -> Enqueue:
    from mamba_ssm.ops.triton.layernorm_gated import rmsnorm_fn

    return lambda tensors, _: rmsnorm_fn(
        tensors[0], tensors[2], None, z=tensors[1], eps=EPSILON, norm_before_gate=False
    )


OTHERS = {"silu gate behind": ("fla", _fla), "silu gate in front": ("mamba_ssm", _mamba)}


def peers(library: ctypes.CDLL, early: ctypes.CDLL, name: str) -> dict[str, Enqueue]:
    torch.compiler.reset()
    case = CASES[name]
    compiled = torch.compile(case.eager, dynamic=False, fullgraph=True)
    found: dict[str, Enqueue] = {
        "ours": _ours(library, case),
        "ours, early": _ours(early, case),
        "torch": lambda tensors, _: case.eager(tensors),
        "torch.compile": lambda tensors, _: compiled(tensors),
    }
    if name in OTHERS:
        other, load_other = OTHERS[name]
        try:
            found[other] = load_other()
        except ImportError as error:
            print(f"{other}: not run: {error}")
    return found


def check(name: str, enqueue: Enqueue, case: Case, tensors: Tensors, outputs: Outputs) -> None:
    """A fast wrong kernel is not timed."""
    result = enqueue(tensors, outputs)
    torch.cuda.synchronize()
    y = outputs[0] if result is None else result[0] if isinstance(result, tuple) else result
    expected = case.eager(tensors)
    expected = expected[0] if isinstance(expected, tuple) else expected
    unit = 0.13 if case.codes == "float8e4m3fn" else 4 * torch.finfo(tensors[0].dtype).eps  # a code, or roundings
    least = 1.0 if case.codes == "int8" else 2e-2
    torch.testing.assert_close(
        y[:64].double(), expected[:64].double(), rtol=unit, atol=least, msg=lambda m: f"{name}: {m}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--case", choices=CASES, action="append", help="only this one; may be repeated")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    dtype, results = getattr(torch, arguments.dtype), []
    with tempfile.TemporaryDirectory() as folder:
        built = build(Path(folder))
        library, early = (load(built, launches_early=launches_early) for launches_early in (False, True))
        today = datetime.datetime.now(tz=datetime.timezone.utc).date()
        title = (
            f"{today}, {torch.cuda.get_device_name()}, driver {gpus()[0].driver}, torch {torch.__version__}, {dtype}"
        )
        print(title)
        for shape in SHAPES:
            buffers = buffers_of(shape, dtype, cold=True)
            copy, _ = microseconds(lambda x, scale, y: y.copy_(x), buffers)  # noqa: ARG005
            for name in arguments.case or CASES:
                case = CASES[name]
                sets = [_set_of(case, x, scale) for x, scale, _ in buffers]
                for kernel, enqueue in peers(library, early, name).items():
                    check(f"{name}, {kernel}", enqueue, case, *sets[0])
                    time, spread = microseconds(enqueue, sets)
                    limit = copy * case.bytes_of(dtype) / (2 * dtype.itemsize)
                    figures = {"us": time, "spread": spread, "copy": copy, "limit": limit}
                    results.append({"shape": shape, "case": name, "kernel": kernel, **figures})
                    print(
                        f"{shape[0]:>6} x {shape[1]:<5} {name:>18} {kernel:>14} {time:9.2f} us, spread {spread:.2f}, "
                        f"{100 * limit / time:.0f} % of memory", flush=True,
                    )  # fmt: skip
    if arguments.output is not None:
        arguments.output.write_text(json.dumps({"title": title, "results": results}, indent=1) + "\n")


def _set_of(case: Case, x: Tensor, scale: Tensor) -> tuple[Tensors, Outputs]:
    operand = torch.randn_like(x, dtype=case.operand_dtype(x.dtype))
    y = torch.empty_like(x, dtype=case.y_dtype(x.dtype))
    return (x, operand, scale, torch.randn_like(scale)), (y, torch.empty_like(operand))


if __name__ == "__main__":
    main()
