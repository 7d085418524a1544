"""square(x): x * x, Pow(x, 2).

1. Mul(x, x), also where the two operands are two equal casts of one x.
2. Pow(x, 2): the exponent of any type, an initialiser or computed from constants.
3. Abs(x) before either: it squares to the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from rms_deploy.fusion.near_miss import NearMiss, near_miss
from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.constants import integers, scalar, why_not_scalar
from rms_deploy.ops.nodes import given_inputs

__all__ = ["Reading", "centred", "readings", "square", "square_behind"]

_PIECE = "square"
_QUANTISED = "the square is quantised; fuse before quantising"

_AFTER_A_SUM = ("Mul", "Div", "Unsqueeze", "Reshape", "Expand")
"""What makes a mean of a sum, or puts it in shape."""

_MAX_STEPS = 4


@dataclass(frozen=True)
class Reading:
    """One way to read what was squared: all of `x`, or its first `partial_size` elements."""

    x: ir.Value
    partial_size: int | None = None


def square(value: ir.Value, facts: Facts) -> tuple[ir.Value, NearMiss | None] | None:
    """x and None where `value` is x squared; x and a near miss where it is another power of x; else None."""
    node = value.producer()
    if node is None or not is_op(node, "Mul", "Pow"):
        return None
    a, b = node.inputs
    if a is None or b is None:
        return None
    if node.op_type == "Mul":
        return (a, None) if facts.same(a, b) else None
    exponent = scalar(b, facts, beside=a)
    if exponent == 2:
        return a, None
    reason = f"the exponent {why_not_scalar(b, facts)}" if exponent is None else f"the exponent is {exponent:g}, not 2"
    return a, near_miss(_PIECE, node, reason)


def square_behind(value: ir.Value, facts: Facts) -> tuple[ir.Value, NearMiss | None] | None:
    """`square`, also where x squared was quantised since, which is a near miss."""
    value = facts.origin(value)
    back = value.producer()
    if back is None or back.op_type != "DequantizeLinear" or back.inputs[0] is None:
        return square(value, facts)
    node = back.inputs[0].producer()
    if node is not None and node.op_type == "QLinearMul" and len(node.inputs) > 3:
        a, b = node.inputs[0], node.inputs[3]
        is_square = a is not None and b is not None and facts.same(a, b)
        return (a, near_miss("casts", node, _QUANTISED)) if a is not None and is_square else None
    if node is None or node.op_type != "QuantizeLinear" or node.inputs[0] is None:
        return None
    squared = square(facts.origin(node.inputs[0]), facts)
    return None if squared is None else (squared[0], squared[1] or near_miss("casts", node, _QUANTISED))


def readings(x: ir.Value, facts: Facts) -> Iterator[Reading]:
    """What may be divided by the root of the mean of x^2: x; v, where x = |v|; v, where x is the first part of v."""
    yield Reading(x)
    node = facts.origin(x).producer()
    if node is not None and is_op(node, "Abs") and node.inputs[0] is not None:
        yield Reading(node.inputs[0])
    if node is not None and is_op(node, "Slice"):
        size = _leading(node, facts)
        if size is not None and node.inputs[0] is not None:
            yield Reading(node.inputs[0], size)


def centred(x: ir.Value, facts: Facts) -> ir.Node | None:
    """The Sub of x = v - mean(v), or its Add of -mean(v): what is normalised is a LayerNorm, or a variance."""
    node = facts.origin(x).producer()
    if node is None or not is_op(node, "Sub", "Add") or node.inputs[0] is None or node.inputs[1] is None:
        return None
    if node.op_type == "Sub":
        return node if _is_mean(node.inputs[1], node.inputs[0], facts, _MAX_STEPS) else None
    pairs = (node.inputs, reversed(node.inputs))
    return node if any(_is_negative_mean(mean, of, facts) for of, mean in pairs) else None


def _is_negative_mean(value: ir.Value | None, of: ir.Value | None, facts: Facts) -> bool:
    negative = None if value is None else value.producer()
    if negative is None or of is None or not is_op(negative, "Neg"):
        return False
    return _is_mean(negative.inputs[0], of, facts, _MAX_STEPS)


def _is_mean(value: ir.Value | None, of: ir.Value, facts: Facts, steps: int) -> bool:
    """Whether `value` is a reduction of `of`, scaled or put in shape after it."""
    node = None if value is None else facts.origin(value).producer()
    if node is None or not steps or not node.inputs or node.inputs[0] is None:
        return False
    if is_op(node, "ReduceMean", "ReduceSum", "GlobalAveragePool"):
        return facts.same(node.inputs[0], of)
    sources = node.inputs if is_op(node, "Mul", "Div") else node.inputs[:1]
    return is_op(node, *_AFTER_A_SUM) and any(_is_mean(source, of, facts, steps - 1) for source in sources)


def _leading(node: ir.Node, facts: Facts) -> int | None:
    """k if `node` is Slice(data, 0, k) along the last axis with step 1, else None."""
    inputs = given_inputs(node)
    if len(inputs) < 3 or inputs[0] is None:
        return None
    starts, ends = integers(inputs[1], facts), integers(inputs[2], facts)
    axes = integers(inputs[3], facts) if len(inputs) > 3 else None
    steps = integers(inputs[4], facts) if len(inputs) > 4 else (1,)
    shape = facts.shape(inputs[0])
    if starts != (0,) or steps != (1,) or ends is None or len(ends) != 1 or axes is None or not shape:
        return None
    last, size = shape[-1], ends[0]
    if axes[0] not in (-1, len(shape) - 1) or not isinstance(last, int) or not 0 < size <= last:
        return None
    return size
