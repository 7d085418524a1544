"""One norm of one shape, as the op benchmark measures it, and its tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rms_deploy.errors import InputError
from rms_deploy.ops.element_types import element_dtype

__all__ = [
    "GATED",
    "OP_KINDS",
    "USUAL_OPS",
    "OpCase",
    "case_inputs",
    "case_scale",
    "paged",
    "parse_shape",
    "tensor_bytes",
]

USUAL_OPS: Final = ("norm", "add-norm")
"""A norm alone, or with the residual addition before it and its sum as a second output."""

GATED: Final = {"norm-gate": "RMSNormSiluGate", "gate-norm": "SiluGateRMSNorm"}
"""A norm whose result, or whose X, is multiplied by Z * sigmoid(Z), and its op."""

OP_KINDS: Final = (*USUAL_OPS, *GATED)
"""What the benchmark knows; it runs the usual ones unless it is told otherwise."""

_PAGE: Final = 4096


@dataclass(frozen=True)
class OpCase:
    """One norm of one shape. Its scale has the type of X and is applied in float32, as ONNX Runtime's kernels do."""

    op: str
    """One of `OP_KINDS`."""
    dtype: str
    shape: tuple[int, ...]
    axis: int
    threads: int

    @property
    def name(self) -> str:
        """As in `16x4096`, with the axis where it is not the last."""
        text = "x".join(map(str, self.shape))
        return text if self.over_last_axis else f"{text} axis {self.axis}"

    @property
    def over_last_axis(self) -> bool:
        """Whether the norm is over the last axis, the only one that most kernels take."""
        return self.axis in (-1, len(self.shape) - 1)


def parse_shape(text: str) -> tuple[tuple[int, ...], int]:
    """Shape and axis from `16x4096`, or from `1x256x56x56@1` for another axis than the last.

    Raises:
        InputError: `text` is not written so, or the shape has no such axis.
    """
    sizes, _, axis = text.partition("@")
    try:
        shape = tuple(int(size) for size in sizes.split("x"))
        number = int(axis or -1)
    except ValueError:
        shape, number = (), 0
    if not shape or min(shape) < 1 or not -len(shape) <= number < len(shape):
        raise InputError(
            f"shape {text!r} is not valid; use sizes as in 16x4096, and @axis for another axis than the last"
        )
    return shape, number


def tensor_bytes(case: OpCase) -> int:
    """Bytes that the op must move: each tensor is read or written once. The copy beside it moves X, and R."""
    elements = int(np.prod(case.shape))
    tensors = {"norm": 2, "add-norm": 4}.get(case.op, 3)
    return elements * element_dtype(case.dtype).itemsize * tensors


def case_inputs(case: OpCase) -> dict[str, NDArray[Any]]:
    """X, and R of an add-norm or Z of a gate: standard normal, the same for every kernel."""
    generator = np.random.default_rng(0)
    names = {"norm": ("X",), "add-norm": ("X", "R")}.get(case.op, ("X", "Z"))
    dtype = element_dtype(case.dtype)
    return {name: paged(generator.standard_normal(case.shape, np.float32).astype(dtype)) for name in names}


def case_scale(case: OpCase, *, spread: bool) -> NDArray[Any]:
    """The scale; `spread`: with sizes of 1 behind the axis, so that it broadcasts over X; else flat."""
    n = case.shape[case.axis]
    behind = len(case.shape) - 1 - case.axis % len(case.shape)
    scale = np.linspace(0.5, 1.5, n, dtype=np.float32).astype(element_dtype(case.dtype))
    return scale.reshape((n,) + (1,) * behind) if spread else scale


def paged(array: NDArray[Any]) -> NDArray[Any]:
    """A copy that starts with a page. At odd distances between source and target a copy can take ten times as long."""
    memory = np.empty(array.nbytes + _PAGE, np.uint8)
    start = -memory.ctypes.data % _PAGE
    copied = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    np.copyto(copied, array)
    return copied
