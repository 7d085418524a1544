"""scaled: normed * scale or scale * normed, where scale fits the block of axes.

1. One element, of any shape that does not make the rank grow.
2. n elements: the dims of the block, and ones elsewhere, aligned from the right ([H], [1, H], [1, 1, H], [C, 1, 1]).
A product that fits neither is no scale, and the norm ends before it.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from rms_deploy.fusion.grammar.match import Match, Stage
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.constants import scalar
from rms_deploy.ops.element_types import ELEMENT_NAMES

__all__ = ["fits", "scaled", "times_one"]

_NEXT = {Stage.NORMED: Stage.SCALED, Stage.ROUNDED: Stage.DONE}


def times_one(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """value * 1, value / 1"""
    if (node.op_type == "Div" and node.inputs[0] is not match.value) or (match.is_sum and match.summed == 1):
        return None
    other = node.inputs[1] if node.inputs[0] is match.value else node.inputs[0]
    one = None if other is match.value else scalar(other, facts, beside=match.ranked(facts))
    return match.at(node.outputs[0]) if one == 1 else None


def scaled(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """Mul by a scale, in the type of the statistics or, once rounded, in the type of x."""
    stage = _NEXT.get(match.stage)
    if stage is None:
        return None
    scale = node.inputs[1] if node.inputs[0] is match.value else node.inputs[0]
    if scale is None or scale is match.value or not fits(scale, match, facts):
        return None
    scale = facts.unexpanded(scale, match.x)
    return match.at(node.outputs[0], stage, scale=scale, rounds_before_scale=match.stage is Stage.ROUNDED)


def fits(scale: ir.Value, match: Match, facts: Facts) -> bool:
    """Whether `scale` broadcasts into the block that is normalised over, and into nothing else."""
    if facts.dtype(facts.origin(scale)) not in ELEMENT_NAMES:
        return False
    scale = facts.unexpanded(scale, match.x)
    shape, of_x = facts.shape(scale), facts.shape(match.x)
    if shape is not None and shape in ((), (1,)):
        return True
    if shape is None or of_x is None or len(shape) > len(of_x):
        return False
    dims = [dim for dim in shape if isinstance(dim, int)]
    if len(dims) != len(shape):
        return False
    if math.prod(dims) == 1:
        return True
    rank = len(of_x)
    block = {axis % rank for axis in match.axes}
    ones = (1,) * (rank - len(shape))
    return all(dim == of_x[axis] if axis in block else dim == 1 for axis, dim in enumerate((*ones, *dims)))
