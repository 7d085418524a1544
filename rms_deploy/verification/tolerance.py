"""How far two results may be from each other: what rounding alone explains, by element type and depth."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from rms_deploy.onnx_model.calls import Calls
from rms_deploy.ops import schemas
from rms_deploy.ops.element_types import float_info, is_float

__all__ = ["FLOAT_TYPES", "FORMULA_TOLERANCE", "rounding", "rounding_depth", "tolerance_for"]


FORMULA_TOLERANCE: Final = 2.0**-24
"""The relative L2 difference, 6e-8, that two models of one formula may have in float64.

Float64 itself adds about 1e-15. The rest is for constants: one model may hold an epsilon in float64 or compute 1 / n,
which the other holds in float32, off by 2^-25 on average.
"""


FLOAT_TYPES: Final = (ir.DataType.BFLOAT16, ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE)
"""The least precise first."""


_MARGIN: Final = 4.0
"""Of `tolerance_for`, which explains it."""


_EXACT_OPS: Final = frozenset(
    {
        *("Concat", "Constant", "ConstantOfShape", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements"),
        *("GatherND", "Identity", "Max", "Min", "Neg", "Pad", "Relu", "Reshape", "Shape", "Slice", "SpaceToDepth"),
        *("Split", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where"),
    }
)
"""Ops that pass numbers on unchanged."""


def tolerance_for(dtype: np.dtype[Any], depth: int) -> float:
    """4 eps(dtype) sqrt(depth), the relative L2 difference that rounding alone explains.

    One rounding to nearest has an error of eps / (2 sqrt(3)) = 0.29 eps in the root of the mean square, and `depth` of
    them in a row, independent, sqrt(depth) times that. Two results that both round differ by sqrt(2) times as much,
    0.41 eps sqrt(depth). The factor 4 leaves a margin of 10 for ops that amplify errors, as subtraction and softmax do;
    measured, a single norm stays 20 times below it and a small decoder 5 to 20 times.
    Integers and booleans must be equal: 0. Those that are codes are compared as codes, by `is_near`.

    Args:
        dtype: the narrowest float type that the model rounds to.
        depth: number of roundings on the longest path, as `rounding_depth` gives it.
    """
    if not is_float(dtype):
        return 0.0
    return _MARGIN * float_info(dtype).eps * math.sqrt(max(depth, 1))


def rounding_depth(model: ir.Model, dtype: np.dtype[Any]) -> int:
    """The largest number of ops in a row that round to `dtype`, from an input to an output.

    An output whose type the model does not say has the type of an input, or the one that Cast names. One that stays
    unknown counts as a rounding to the narrowest float type that the model really has, so that no other is assumed.
    """
    narrowest = _narrowest(model)
    types: dict[ir.Value | None, ir.DataType | None] = {}
    depths: dict[ir.Value | None, int] = {}
    for node in model.graph:
        before = max((depths.get(value, 0) for value in node.inputs), default=0)
        inherited = next((t for v in node.inputs if v is not None and (t := types.get(v) or v.dtype)), None)
        target = ir.DataType(node.attributes.get_int("to", 0)) if node.op_type == "Cast" else inherited
        for output in node.outputs:
            types[output] = output.dtype or target
            depths[output] = before + _rounds(node, types[output], dtype, unknown=narrowest)
    return max((depths.get(output, 0) for output in model.graph.outputs), default=0)


def _rounds(node: ir.Node, result: ir.DataType | None, dtype: np.dtype[Any], *, unknown: ir.DataType | None) -> bool:
    if node.domain == "" and node.op_type in _EXACT_OPS:
        return False
    result = result or unknown
    return result is not None and result != ir.DataType.STRING and result.numpy() == dtype


def _narrowest(model: ir.Model) -> ir.DataType | None:
    """The least precise float type of all that the model says."""
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    values += [output for node in model.graph for output in node.outputs]
    said = {value.dtype for value in values}
    return next((dtype for dtype in FLOAT_TYPES if dtype in said), None)


def rounding(model: ir.Model, *, upcast: ir.DataType | None) -> tuple[np.dtype[Any], int]:
    """The least precise float type that `model` rounds to, and how often in a row; `upcast`, if that is wider."""
    schemas.register()
    model = model.clone()  # which gets the types that shape inference finds
    if Calls(model).may_be_inlined():
        ShapeInferencePass(check_type=False, strict_mode=False)(model)
    depths = ((dtype, rounding_depth(model, np.dtype(dtype.numpy()))) for dtype in FLOAT_TYPES)
    narrowest, depth = next(((dtype, depth) for dtype, depth in depths if depth), (ir.DataType.FLOAT, 1))
    if upcast is not None and FLOAT_TYPES.index(upcast) > FLOAT_TYPES.index(narrowest):
        narrowest = upcast
    return np.dtype(narrowest.numpy()), depth
