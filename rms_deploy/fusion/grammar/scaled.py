"""scaled: normed * scale or scale * normed, where the op takes the scale.

1. One element, of any shape that does not make the rank grow.
2. n elements: the dims of the block, and ones elsewhere, aligned from the right ([H], [1, H], [1, 1, H], [C, 1, 1]).
3. One of these for each of several rows, as `ops/scale_shape.py` says: groups ([G, H]), samples ([B, 1, H]). A tensor
   of the shape of x that is no weight is a gate, or another x, and no scale.
A product that fits none is no scale, and the norm ends before it. Only where the sum of squares still lacks its
power of n is another product passed, for the power of n may follow: F.normalize(x) * gamma * sqrt(n) in every order.
"""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.fusion.grammar.match import Match, Stage
from rms_deploy.fusion.grammar.size import averaged, is_power_of_size
from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.constants import scalar
from rms_deploy.onnx_model.last_size import last_size
from rms_deploy.ops.element_types import ELEMENT_NAMES
from rms_deploy.ops.scale_shape import why_not_taken

__all__ = ["factors", "fits", "is_inside", "scaled", "times_one", "without_size"]

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
    scale = node.inputs[1] if node.inputs[0] is match.value else node.inputs[0]
    if scale is None or scale is match.value or not match.is_norm or match.factor is not None:
        return None
    lacks_size = match.is_sum
    if lacks_size:
        match, scale = without_size(match, node, scale, facts)
    stage = _NEXT.get(match.stage)
    if stage is not None and fits(scale, match, facts):
        scale = facts.unexpanded(scale, match.x)
        return match.at(node.outputs[0], stage, scale=scale, rounds_before_scale=match.stage is Stage.ROUNDED)
    has_type = facts.dtype(scale) == match.dtype  # of the product that is written after the norm
    return match.at(node.outputs[0], factor=scale) if lacks_size and has_type else None


def without_size(match: Match, node: ir.Node, scale: ir.Value, facts: Facts) -> tuple[Match, ir.Value]:
    """The match and the scale where `scale` is a product of the missing power of n: the mean's, and the rest of it."""
    for rest, power in factors(scale):
        if is_power_of_size(power, scalar(power, facts), 0.5, match, facts):
            return averaged(match, node), rest
    return match, scale


def factors(value: ir.Value) -> tuple[tuple[ir.Value, ir.Value], ...]:
    """The operands of the product that `value` is, in both orders."""
    node = value.producer()
    if node is None or not is_op(node, "Mul") or node.inputs[0] is None or node.inputs[1] is None:
        return ()
    a, b = node.inputs[0], node.inputs[1]
    return ((a, b), (b, a))


def is_inside(scale: ir.Value, match: Match, facts: Facts) -> bool:
    """Whether `scale` broadcasts into x, and does not make it grow."""
    shape, of_x = facts.shape(scale), facts.shape(match.x)
    if shape is None or of_x is None or len(shape) > len(of_x) or facts.dtype(scale) != match.dtype:
        return False
    pairs = zip(shape, of_x[len(of_x) - len(shape) :], strict=True)
    return all(dim == 1 or facts.same_dim(dim, of) for dim, of in pairs)


def fits(scale: ir.Value, match: Match, facts: Facts) -> bool:
    """Whether the op takes `scale`: it broadcasts to x, and does not make it grow.

    One symbol at several inputs is one size, as ONNX defines it: the op refuses two, and gives no other numbers.
    """
    if facts.dtype(facts.origin(scale)) not in ELEMENT_NAMES:
        return False
    scale = facts.unexpanded(scale, match.x)
    shape, of_x = facts.shape(scale), facts.shape(match.x)
    if shape is not None and shape in ((), (1,)):
        return True
    if of_x is None and match.axes == (-1,) and shape is not None and len(shape) == 1:
        return shape[0] is not None and shape[0] == last_size(match.x, facts)
    if shape is None or of_x is None or len(shape) > len(of_x) or not match.axes:
        return False
    if len(of_x) > len(match.axes) and shape == of_x and not _is_weight(facts.origin(scale)):
        return False
    block = {axis % len(of_x) for axis in match.axes}
    is_static = all(isinstance(dim, int) for axis, dim in enumerate(shape, len(of_x) - len(shape)) if axis in block)
    return is_static and why_not_taken(shape, of_x, match.axes) is None


def _is_weight(value: ir.Value) -> bool:
    return value.const_value is not None or is_op(value.producer(), "Constant")
