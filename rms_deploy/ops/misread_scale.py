"""Norms whose body ONNX Runtime would fuse wrongly, and how that is told to the body.

ONNX Runtime makes Pow, ReduceMean, Add, Sqrt, Div and Mul over the last axis its SimplifiedLayerNormalization. It takes
for the scale whichever operand of the Mul has one dim, the last if both have.

1. X of one dim beside a scale of another rank: X / root itself is taken, and the model does not load.
2. A scale of one element: taken, and refused by ONNX Runtime before 1.24 when it runs.
3. A last axis without elements: SimplifiedLayerNormalization refuses what Pow and ReduceMean take.
4. An axis that is counted from the front, where only a declaration says that it is the last one: ONNX Runtime believes
   what a Loop declares of a value whose rank changes.

A body that squares by Mul is not fused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import onnx_ir as ir

from rms_deploy.ops.nodes import axes_of, scale_of, shaped_inputs

__all__ = ["MISREAD", "is_misread", "misread"]

MISREAD: Final = "rms_deploy.misread"
"""In the `meta` of a node: what `misread` says, where more is known than the model declares."""

_Dims = Sequence[int | str | ir.SymbolicDim | None] | ir.Shape


def misread(x: _Dims | None, scale: _Dims | None, axes: Sequence[int]) -> bool:
    """Whether ONNX Runtime would fuse the body of a norm wrongly, as far as that is known."""
    if x is None and len(axes) == 1 and axes[0] >= 0:
        return True
    is_last = tuple(axes) == (-1,) or (x is not None and tuple(axes) == (len(x) - 1,))
    if not is_last:
        return False
    size = x[-1] if x else None
    if size == 0:
        return True
    if scale is not None and len(scale) == 1:
        return scale[0] == 0 or scale[0] == 1 != size
    return x is not None and len(x) == 1


def is_misread(node: ir.Node) -> bool:
    """The same of a node, by what is declared."""
    if MISREAD in node.meta:
        return bool(node.meta[MISREAD])
    x = next((v.shape for v in (*shaped_inputs(node), *node.outputs) if v is not None and v.shape is not None), None)
    given = scale_of(node)
    scale = None if given is None else given.shape
    return misread(x, scale, axes_of(node))
