"""The norms that runtimes have as one op, by their documented formulas, for onnx's own evaluator.

SimplifiedLayerNormalization and SkipSimplifiedLayerNormalization are ONNX Runtime's, and unknown to it; of
RMSNormalization it has a version of its own, which leaves out the rounding that the specification has in half types.
Operators of ONNX that make much of a few numbers are bounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun
from onnx.reference.ops import op_constant_of_shape, op_expand, op_range, op_tile

__all__ = ["NEW_OPS"]

_Array = NDArray[Any]

_MAX_ELEMENTS: Final = 2**22
"""Elements of a result that a few numbers ask for, such as the target of Expand."""


class RMSNormalization(OpRun):
    """ONNX, opset 23: x / rms is rounded to the type of x, and then scaled."""

    op_domain = ""

    def _run(
        self, x: _Array, scale: _Array, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
    ) -> tuple[_Array]:
        del stash_type  # the grammar takes float32 alone
        if x.dtype != scale.dtype:
            raise ValueError(f"RMSNormalization of {x.dtype} with a scale of {scale.dtype}, which ONNX does not define")
        return (_normed(x, axis, epsilon).astype(x.dtype) * scale,)


class SimplifiedLayerNormalization(OpRun):
    """ONNX Runtime: x / rms is scaled in float32, and then rounded to the type of scale."""

    op_domain = "com.microsoft"

    def _run(
        self, x: _Array, scale: _Array, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
    ) -> tuple[_Array]:
        del stash_type
        return ((_normed(x, axis, epsilon) * scale.astype(np.float32)).astype(scale.dtype),)


class SkipSimplifiedLayerNormalization(OpRun):
    """ONNX Runtime: total = x + (skip + bias), each sum rounded to the type of x, and the norm of it."""

    op_domain = "com.microsoft"

    def _run(
        self, x: _Array, skip: _Array, gamma: _Array, bias: _Array | None = None, epsilon: float = 1e-12
    ) -> tuple[_Array, _Array, _Array, _Array]:
        total = x + (skip if bias is None else skip + bias)
        y = (_normed(total, -1, epsilon) * gamma.astype(np.float32)).astype(x.dtype)
        unused = np.empty(
            0, np.float32
        )  # the mean and the inverse root: a node whose readers need them is not expanded
        return y, unused, unused, total


def _normed(x: _Array, axis: int, epsilon: float) -> _Array:
    """x / rms in float32, over the axes from `axis` on."""
    wide = x.astype(np.float32)
    axes = tuple(range(axis % x.ndim, x.ndim))
    return np.asarray(wide / np.sqrt(np.mean(wide * wide, axes, keepdims=True) + np.float32(epsilon)))


_IN_ONNX: Final = type("SimplifiedLayerNormalization", (SimplifiedLayerNormalization,), {"op_domain": ""})
"""ONNX Runtime has it in ONNX's domain too. The evaluator goes by the name of the class."""


def _bounded(base: type[OpRun], elements: Callable[..., float]) -> type[OpRun]:
    """ONNX's operator `base`, which does not run where its result would have too many `elements`."""

    def run(self: OpRun, *inputs: _Array, **attributes: Any) -> Any:
        size = elements(*inputs)
        if not size <= _MAX_ELEMENTS:
            raise ValueError(f"a result of {size:g} elements is too large to be run")
        return base._run(self, *inputs, **attributes)  # type: ignore[no-untyped-call]

    return type(base.__name__, (base,), {"op_domain": "", "_run": run})


_BOUNDED: Final = [
    _bounded(op_expand.Expand, lambda x, shape: math.prod(np.broadcast_shapes(x.shape, tuple(shape)))),
    _bounded(op_constant_of_shape.ConstantOfShape, lambda shape: math.prod(shape.tolist())),
    _bounded(op_tile.Tile, lambda x, repeats: x.size * math.prod(repeats.tolist())),
    _bounded(op_range.Range, lambda start, limit, delta: (limit.item() - start.item()) / delta.item()),
]

NEW_OPS: Final = [
    *(RMSNormalization, SimplifiedLayerNormalization, _IN_ONNX, SkipSimplifiedLayerNormalization),
    *_BOUNDED,
]
