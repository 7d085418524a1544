"""Identity, casts and broadcasts: what they do to each stage of a norm.

1. Identity, and a cast to the own type, change nothing anywhere.
2. Statistics may be computed in float64, or be cast to it and back: the op's float32 is as good for a result in float32
   or less. A norm that ends in float64 is a near miss, for the op cannot express it.
3. Statistics rounded to a half type are less precise than the op's: a gain of precision, which has to be allowed.
   But for 1 / rms, rounded to the type of x just before x is multiplied by it: the contract has an op for that.
4. A cast of x / rms, or of scale * x / rms, back to the type that x came in belongs to the norm; any other ends it.
5. Expand of the statistics to the shape of x is what the operators after it do by themselves.
6. Quantised statistics are near misses.
"""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.fusion.grammar.match import Match, Stage
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.element_types import ELEMENT_NAMES, HALF

__all__ = ["cast", "expand", "identity", "quantize"]

_PIECE = "casts"
_WIDE = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
_NARROWED = {Stage.NORMED: Stage.ROUNDED, Stage.SCALED: Stage.DONE}


def identity(match: Match, node: ir.Node, facts: Facts) -> Match:  # noqa: ARG001 - the signature of a piece
    """value -> value"""
    return match.at(node.outputs[0])


def cast(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """Cast, CastLike"""
    if node.inputs[0] is not match.value:
        return None
    to = facts.cast_type(node)
    if to == match.dtype:
        return match.at(node.outputs[0])
    if match.stage is Stage.INVERSE_ROOT and to in HALF and match.dtype in _WIDE:
        return match.at(node.outputs[0], Stage.ROUNDED_INVERSE, dtype=to)
    match = match.keeping_precision(node)
    if to in _WIDE and not match.is_narrow:
        return match.at(node.outputs[0], dtype=to)
    if match.is_norm:
        if (
            match.factor is not None
            or to not in HALF
            or to != facts.dtype(facts.origin(match.x))
            or match.stage not in _NARROWED
        ):
            return None
        return match.at(node.outputs[0], _NARROWED[match.stage], dtype=to)
    name = "another type" if to is None else ELEMENT_NAMES.get(to, to.name.lower())
    reason = f"the statistics are cast to {name} before x is normalised; the op keeps them in float32"
    if to in HALF:
        return match.at(node.outputs[0], dtype=to).gaining(node, reason)
    return match.at(node.outputs[0]).doubting(_PIECE, node, reason)


def quantize(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """QuantizeLinear, and DequantizeLinear after it"""
    if match.is_norm or node.inputs[0] is not match.value:
        return None
    names = {Stage.MEAN_SQUARE: "mean square", Stage.ROOT: "root"}
    reason = f"the {names.get(match.stage, 'inverse root')} is quantised; fuse before quantising"
    dtype = facts.dtype(node.outputs[0]) if node.op_type == "DequantizeLinear" else match.dtype
    return match.at(node.outputs[0], dtype=dtype or match.dtype).doubting(_PIECE, node, reason)


def expand(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """Expand(statistics, shape of x)"""
    if node.inputs[0] is not match.value or match.is_norm:
        return None
    step = match.at(node.outputs[0])
    if match.keeps_axes and not match.layout and facts.is_expanded_to(node, match.x):
        return step
    return step.doubting(_PIECE, node, "the statistics are expanded to a shape that is not proven to be that of x")
