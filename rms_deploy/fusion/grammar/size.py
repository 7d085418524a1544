"""n, the number of elements normalised over: a constant, or read from the shape of x when the model runs.

1. A sum of squares becomes their mean by / n or * 1 / n, at once or once an epsilon was added.
2. The root of a sum becomes rms by / sqrt(n) or * n^-0.5; its inverse, and x over it, by * sqrt(n) (F.normalize).
The constants that were met before are then divided by the same: epsilon by n, the others by sqrt(n).
"""

from __future__ import annotations

import math
from dataclasses import replace

import onnx_ir as ir

from rms_deploy.fusion.grammar.match import Match, Stage
from rms_deploy.fusion.grammar.read_size import read_exponent
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.constants import scalar, why_not_scalar

__all__ = ["average", "averaged", "is_power_of_size"]

_PIECE = "mean_square"

_EXPONENTS = {Stage.MEAN_SQUARE: -1.0, Stage.INVERSE_MEAN_SQUARE: 1.0, Stage.ROOT: -0.5}
"""The power of n that turns each stage of a sum into that of a mean; 0.5 for all others."""

_TOLERANCE = {ir.DataType.DOUBLE: 2.0**-22, ir.DataType.FLOAT: 2.0**-22, ir.DataType.FLOAT16: 2.0**-10}
"""Relative; two roundings of the type. A float64 constant may have been computed in float32."""


def average(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """Mul or Div by the power of n that is missing"""
    if not match.is_sum or (node.op_type == "Div" and node.inputs[0] is not match.value):
        return None
    other = node.inputs[1] if node.inputs[0] is match.value else node.inputs[0]
    if other is None or other is match.value:
        return None
    exponent = _EXPONENTS.get(match.stage, 0.5) * (-1 if node.op_type == "Div" else 1)
    factor = scalar(other, facts, beside=match.ranked(facts))
    if is_power_of_size(other, factor, exponent, match, facts):
        return averaged(match, node)
    if match.stage is not Stage.MEAN_SQUARE:
        return None
    step = replace(match.at(node.outputs[0]), is_sum=False)
    if factor is None:
        return step.doubting(_PIECE, node, f"the number of elements {why_not_scalar(other, facts)}")
    if not match.summed:
        reason = "the size of the axes is not static" if match.summed is None else "the axes have no elements"
        return step.doubting(_PIECE, node, f"the sum is divided by a constant, but {reason}")
    expected = float(match.summed) ** exponent
    return step.doubting(_PIECE, node, f"the sum of {match.summed} squares is scaled by {factor:g}, not {expected:g}")


def averaged(match: Match, node: ir.Node) -> Match:
    """The match at the output of `node`, which multiplied by the missing power of n."""
    step = replace(match.keeping_precision(node).at(node.outputs[0]), is_sum=False)
    root = math.sqrt(match.summed or 0)
    if match.is_narrow and not (root and math.log2(root).is_integer()):
        step = step.gaining(node, "x / |x| is rounded before it is multiplied by sqrt(n); the op rounds once")
    if not (match.epsilon or match.rms_epsilon or match.rms_min):
        return step
    if not match.summed:
        reason = "the size of the axes is not static" if match.summed is None else "the axes have no elements"
        return step.doubting(_PIECE, node, f"a constant is added to the sum of squares, and {reason}")
    return replace(
        step,
        epsilon=match.epsilon and match.epsilon / match.summed,
        rms_epsilon=match.rms_epsilon and match.rms_epsilon / root,
        rms_min=match.rms_min and match.rms_min / root,
    )


def is_power_of_size(value: ir.Value, factor: float | None, exponent: float, match: Match, facts: Facts) -> bool:
    """Whether `value`, a constant `factor` or computed, is n to the power of `exponent`."""
    if factor is not None:
        if not match.summed:
            return False
        return math.isclose(factor, float(match.summed) ** exponent, rel_tol=_TOLERANCE.get(match.dtype, 2.0**-7))
    if match.partial_size is not None or not _keeps_rank(value, match, facts):
        return False
    return read_exponent(value, match.x, match.axes, facts) == exponent


def _keeps_rank(value: ir.Value, match: Match, facts: Facts) -> bool:
    """Whether `value`, of one element, does not make the rank of the statistics grow."""
    rank, own = facts.rank(value), facts.rank(match.ranked(facts))
    return rank is not None and rank <= max(own or 0, 1)
