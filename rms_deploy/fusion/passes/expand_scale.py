"""A scale of one element, written out over the axes of its norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

__all__ = ["expanded", "integers"]

_INTEGERS_OPSET: Final = 9
"""The first in which a Constant holds integers."""

_FLOAT32: Final = ir.DataType.FLOAT


def expanded(scale: ir.Value, dtype: ir.DataType, shape: Sequence[int], opset: int) -> list[ir.Node]:
    """Nodes that give `scale` of type `dtype`, which broadcasts to `shape`, in `shape`.

    1. Expand.
    2. Below opset 9, where no Constant holds a shape: the product with ones.
    3. bfloat16, which ONNX Runtime expands on no CPU: in float32, between two casts.
    """
    if dtype == ir.DataType.BFLOAT16:  # case 3
        wide = ir.node("Cast", [scale], {"to": _FLOAT32})
        inner = expanded(wide.outputs[0], _FLOAT32, shape, opset)
        return [wide, *inner, ir.node("Cast", [inner[-1].outputs[0]], {"to": dtype})]
    if opset < _INTEGERS_OPSET:  # case 2
        ones = ir.node("Constant", [], {"value": ir.tensor(np.ones(shape, dtype.numpy()))})
        return [ones, ir.node("Mul", [scale, ones.outputs[0]])]
    target = integers(shape, opset)
    return [*target, ir.node("Expand", [scale, target[-1].outputs[0]])]


def integers(values: Sequence[int], opset: int) -> list[ir.Node]:
    """Nodes that give a vector of int64."""
    if opset < _INTEGERS_OPSET:
        floats = ir.node("Constant", [], {"value": ir.tensor(np.asarray(values, np.float32))})
        return [floats, ir.node("Cast", [floats.outputs[0]], {"to": ir.DataType.INT64})]
    return [ir.node("Constant", [], {"value": ir.tensor(np.asarray(values, np.int64))})]
