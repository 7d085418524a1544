"""A floor under the mean square or the root: rms_min, or nothing where it changes no number.

1. Max, Clip, the attribute `min` of Clip below opset 11; under the mean square it is the square of rms_min.
2. Where(r < c, c, r), and the same with the comparison the other way round.
3. A floor of zero or less, Relu and Abs leave what is never negative as it is.
4. An upper bound that is infinite, or the largest finite number of the type, is none.
"""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import onnx_ir as ir

from rms_deploy.fusion.grammar.match import Match, Stage
from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.constants import scalar, why_not_scalar
from rms_deploy.ops.nodes import given_inputs

__all__ = ["ceiling", "clip", "floor", "never_negative", "where"]

_PIECE = "rms_min"

_LESS = ("Less", "LessOrEqual")
_COMPARISONS = (*_LESS, "Greater", "GreaterOrEqual")


def floor(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """max(mean square, rms_min^2), max(root, rms_min)"""
    others = _others(match, node)
    if others is None:
        return None
    return match.at(node.outputs[0]) if not others else _floored(match, node, others[0], facts)


def ceiling(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """min(value, infinity)"""
    others = _others(match, node)
    if others is None:
        return None
    return match.at(node.outputs[0]) if not others else _bounded(match, node, others[0], facts)


def clip(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """Clip, whose bounds are attributes below opset 11"""
    if match.is_norm or node.inputs[0] is not match.value:
        return None
    _, low, high, *_ = (*given_inputs(node), None, None)
    below, above = node.attributes.get("min"), node.attributes.get("max")
    step = match if high is None else _bounded(match, node, high, facts)
    if above is not None and (above.is_ref() or not _is_no_bound(above.as_float(), match)):
        step = _clipped(step, node)
    if low is not None:
        return _floored(step, node, low, facts)
    if below is None:
        return step.at(node.outputs[0])
    return (
        step.doubting(_PIECE, node, "the floor is a parameter of the function around it")
        if below.is_ref()
        else (_with_floor(step, node, below.as_float()))
    )


def where(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """Where(value < floor, floor, value)"""
    condition, a, b = node.inputs
    if match.is_norm or match.value not in (a, b) or a is b:
        return None
    compare = None if condition is None else condition.producer()
    other = b if a is match.value else a
    if compare is not None and is_op(compare, *_COMPARISONS) and other is not None:
        left, right = compare.inputs
        is_less = compare.op_type in _LESS
        chosen = (right, left) if is_less else (left, right)  # the larger first, where the comparison holds
        if _are(chosen, (a, b), facts):
            return _floored(match, node, other, facts)
    return match.at(node.outputs[0]).doubting(_PIECE, node, "the statistics are replaced where a condition holds")


def never_negative(match: Match, node: ir.Node, facts: Facts) -> Match | None:  # noqa: ARG001 - as every piece
    """Relu, Abs of statistics"""
    return None if match.is_norm else match.at(node.outputs[0])


def _others(match: Match, node: ir.Node) -> list[ir.Value | None] | None:
    """The one operand beside the statistics; none where they are alone; None where the node is no bound of them."""
    others = [value for value in node.inputs if value is not match.value]
    return None if match.is_norm or len(node.inputs) - len(others) != 1 or len(others) > 1 else others


def _are(values: tuple[ir.Value | None, ...], others: tuple[ir.Value | None, ...], facts: Facts) -> bool:
    pairs = zip(values, others, strict=True)
    return all(a is not None and b is not None and facts.same(a, b) for a, b in pairs)


def _floored(match: Match, node: ir.Node, low: ir.Value | None, facts: Facts) -> Match:
    value = scalar(low, facts, beside=match.ranked(facts))
    if value is None:
        return match.at(node.outputs[0]).doubting(_PIECE, node, f"the floor {why_not_scalar(low, facts)}")
    return _with_floor(match, node, value)


def _with_floor(match: Match, node: ir.Node, value: float) -> Match:
    step = match.at(node.outputs[0])
    if value <= 0:
        return step
    if not math.isfinite(value):
        return step.doubting(_PIECE, node, f"the floor is {value:g}; it must be finite and not negative")
    if match.stage not in (Stage.MEAN_SQUARE, Stage.ROOT):
        return step.doubting(_PIECE, node, "the inverse of the statistics has a floor; the op has one under the root")
    if match.rms_min is not None:
        return step.doubting(_PIECE, node, "a second floor")
    # Sqrt is monotone and correctly rounded, so the root of the larger is the larger of the roots.
    least = value if match.stage is Stage.ROOT else float(np.sqrt(np.float32(value)))
    return match.at(node.outputs[0], rms_min=least)


def _bounded(match: Match, node: ir.Node, high: ir.Value | None, facts: Facts) -> Match:
    value = scalar(high, facts, beside=match.ranked(facts))
    return match.at(node.outputs[0]) if value is not None and _is_no_bound(value, match) else _clipped(match, node)


def _clipped(match: Match, node: ir.Node) -> Match:
    return match.at(node.outputs[0]).doubting(_PIECE, node, "the statistics are clipped from above")


def _is_no_bound(value: float, match: Match) -> bool:
    return value >= float(ml_dtypes.finfo(match.dtype.numpy()).max)  # type: ignore[no-untyped-call]
