"""One norm of one shape, as the op benchmark measures it, and its tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rms_deploy.errors import InputError
from rms_deploy.ops.contract import (
    ADD_FLOAT32_RMS_NORM,
    ADD_RMS_NORM,
    RMS_NORM,
    RMS_NORM_SHIFT,
    RMS_NORM_SILU_GATE,
    SILU_GATE_RMS_NORM,
)
from rms_deploy.ops.element_types import element_dtype

__all__ = [
    "OP_KINDS",
    "USUAL_OPS",
    "OpCase",
    "case_inputs",
    "case_scale",
    "case_shift",
    "paged",
    "parse_shape",
    "tensor_bytes",
]

USUAL_OPS: Final = ("norm", "add-norm")
"""A norm alone, or with the residual addition before it and its sum as a second output."""

OP_KINDS: Final = {
    "norm": RMS_NORM,
    "add-norm": ADD_RMS_NORM,
    "norm-gate": RMS_NORM_SILU_GATE,
    "gate-norm": SILU_GATE_RMS_NORM,
    "norm-shift": RMS_NORM_SHIFT,
    "add-float32-norm": ADD_FLOAT32_RMS_NORM,
}
"""What the benchmark knows, and the op of each; it runs the usual ones unless it is told otherwise.

A gate is Z * sigmoid(Z), behind the norm or in front of it. `add-float32-norm` normalises the sum before it is rounded.
"""

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
    def tensors(self) -> tuple[str, ...]:
        """The inputs of the shape of X."""
        op = OP_KINDS[self.op]
        return tuple(name for name, _ in op.inputs[: op.scale_index])

    @property
    def outputs(self) -> tuple[str, ...]:
        """All have the shape and the type of X."""
        return tuple(name for name, _ in OP_KINDS[self.op].outputs)

    @property
    def normalized_dtype(self) -> str:
        """Of what is normalised, where each step is an op of its own."""
        return "float32" if self.op == "add-float32-norm" else self.dtype

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
    return elements * element_dtype(case.dtype).itemsize * (len(case.tensors) + len(case.outputs))


def case_inputs(case: OpCase) -> dict[str, NDArray[Any]]:
    """X, and R of an add-norm or Z of a gate: standard normal, the same for every kernel."""
    generator = np.random.default_rng(0)
    dtype = element_dtype(case.dtype)
    return {name: paged(generator.standard_normal(case.shape, np.float32).astype(dtype)) for name in case.tensors}


def case_scale(case: OpCase, *, spread: bool) -> NDArray[Any]:
    """The scale; `spread`: with sizes of 1 behind the axis, so that it broadcasts over X; else flat."""
    n = case.shape[case.axis]
    behind = len(case.shape) - 1 - case.axis % len(case.shape)
    scale = np.linspace(0.5, 1.5, n, dtype=np.float32).astype(element_dtype(case.dtype))
    return scale.reshape((n,) + (1,) * behind) if spread else scale


def case_shift(case: OpCase, *, spread: bool) -> NDArray[Any]:
    """The shift, like the scale."""
    return np.ascontiguousarray(case_scale(case, spread=spread)[::-1])


def paged(array: NDArray[Any]) -> NDArray[Any]:
    """A copy that starts with a page. At odd distances between source and target a copy can take ten times as long."""
    memory = np.empty(array.nbytes + _PAGE, np.uint8)
    start = -memory.ctypes.data % _PAGE
    copied = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    np.copyto(copied, array)
    return copied
