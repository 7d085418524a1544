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
from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.constants import integers, scalar, why_not_scalar
from rms_deploy.ops.element_types import HALF

__all__ = ["average", "averaged", "is_power_of_size"]

_PIECE = "mean_square"

_EXPONENTS = {Stage.MEAN_SQUARE: -1.0, Stage.INVERSE_MEAN_SQUARE: 1.0, Stage.ROOT: -0.5}
"""The power of n that turns each stage of a sum into that of a mean; 0.5 for all others."""

_TOLERANCE = {ir.DataType.DOUBLE: 2.0**-22, ir.DataType.FLOAT: 2.0**-22, ir.DataType.FLOAT16: 2.0**-10}
"""Relative; two roundings of the type. A float64 constant may have been computed in float32."""

_FLOATS = (*HALF, ir.DataType.FLOAT, ir.DataType.DOUBLE)

_UNCHANGED = ("Identity", "Squeeze", "Unsqueeze", "Reshape")
_MAX_DEPTH = 12


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
    if match.summed is None:
        return step.doubting(_PIECE, node, "the sum is divided by a constant, but the size of the axes is not static")
    expected = float(match.summed) ** exponent
    return step.doubting(_PIECE, node, f"the sum of {match.summed} squares is scaled by {factor:g}, not {expected:g}")


def averaged(match: Match, node: ir.Node) -> Match:
    """The match at the output of `node`, which multiplied by the missing power of n."""
    step = replace(match.at(node.outputs[0]), is_sum=False)
    root = math.sqrt(match.summed or 0)
    if match.is_narrow and not (root and math.log2(root).is_integer()):
        step = step.gaining(node, "x / |x| is rounded before it is multiplied by sqrt(n); the op rounds once")
    if not (match.epsilon or match.rms_epsilon or match.rms_min):
        return step
    if match.summed is None:
        reason = "a constant is added to the sum of squares, and the size of the axes is not static"
        return step.doubting(_PIECE, node, reason)
    return replace(
        step,
        epsilon=match.epsilon and match.epsilon / match.summed,
        rms_epsilon=match.rms_epsilon and match.rms_epsilon / root,
        rms_min=match.rms_min and match.rms_min / root,
    )


def is_power_of_size(value: ir.Value, factor: float | None, exponent: float, match: Match, facts: Facts) -> bool:
    """Whether `value`, a constant `factor` or computed, is n to the power of `exponent`."""
    if factor is not None:
        if match.summed is None:
            return False
        return math.isclose(factor, float(match.summed) ** exponent, rel_tol=_TOLERANCE.get(match.dtype, 2.0**-7))
    return match.partial_size is None and _exponent(value, match, facts, _MAX_DEPTH) == exponent


def _exponent(value: ir.Value | None, match: Match, facts: Facts, depth: int) -> float | None:
    """p where `value` is n^p, read from the shape of x; else None."""
    node = None if value is None else value.producer()
    if node is None or node.domain != "" or not depth or not node.inputs:
        return None
    if node.op_type in ("Sqrt", "Reciprocal", "Pow"):
        base = _exponent(node.inputs[0], match, facts, depth - 1)
        power = {"Sqrt": 0.5, "Reciprocal": -1.0}.get(node.op_type)
        power = scalar(node.inputs[1], facts) if power is None else power
        return None if base is None or power is None else base * power
    if node.op_type == "Div":
        below = _exponent(node.inputs[1], match, facts, depth - 1)
        return -below if below is not None and scalar(node.inputs[0], facts) == 1 else None
    if node.op_type in ("Cast", "CastLike"):
        to = facts.cast_type(node)
        exact = to is not None and to not in HALF
        return _exponent(node.inputs[0], match, facts, depth - 1) if exact else None
    if node.op_type in _UNCHANGED and facts.dtype(node.outputs[0]) in _FLOATS:
        return _exponent(node.inputs[0], match, facts, depth - 1)
    sized = _sized_axes(value, match, facts, depth)
    rank = facts.rank(match.x)
    axes = [axis if rank is None else axis % rank for axis in match.axes]
    return 1.0 if sized is not None and sorted(sized) == sorted(axes) else None


def _sized_axes(value: ir.Value | None, match: Match, facts: Facts, depth: int) -> list[int] | None:
    """The axes of x whose sizes `value` holds: one size in each element, or the product of all in one element.

    They are counted from the front where the rank of x is known, else as the model counts them. None: `value` is
    something else.
    """
    node = None if value is None else value.producer()
    if node is None or node.domain != "" or not depth or not node.inputs:
        return None
    if node.op_type in (*_UNCHANGED, "Cast", "ReduceProd"):
        return _sized_axes(node.inputs[0], match, facts, depth - 1)
    if node.op_type == "Mul":
        parts = [_sized_axes(part, match, facts, depth - 1) for part in node.inputs]
        return None if None in parts else [axis for part in parts for axis in part or ()]
    rank = facts.rank(match.x)
    if node.op_type == "Size" and rank is not None and facts.has_shape_of(node.inputs[0], match.x):
        return list(range(rank))
    if node.op_type == "Shape" and facts.has_shape_of(node.inputs[0], match.x):
        bounds = [None if a is None else a.as_int() for a in map(node.attributes.get, ("start", "end"))]
        if rank is None:
            return [-1] if bounds == [-1, None] else None
        return list(range(rank))[slice(*bounds)]
    if node.op_type == "Gather":
        return _gathered_axes(node, match, facts, depth)
    return _sliced_axes(node, match, facts, depth) if node.op_type == "Slice" and rank is not None else None


def _gathered_axes(node: ir.Node, match: Match, facts: Facts, depth: int) -> list[int] | None:
    indices, source = integers(node.inputs[1], facts), node.inputs[0]
    shape = None if source is None else source.producer()
    if indices is not None and facts.rank(match.x) is None and is_op(shape, "Shape") and shape and not shape.attributes:
        return list(indices) if facts.has_shape_of(shape.inputs[0], match.x) else None
    whole = _sized_axes(source, match, facts, depth - 1)
    if whole is None or indices is None or not all(-len(whole) <= i < len(whole) for i in indices):
        return None
    return [whole[i] for i in indices]


def _sliced_axes(node: ir.Node, match: Match, facts: Facts, depth: int) -> list[int] | None:
    whole = _sized_axes(node.inputs[0], match, facts, depth - 1)
    starts, ends = (integers(node.inputs[i], facts) for i in (1, 2)) if len(node.inputs) > 2 else (None, None)
    steps = integers(node.inputs[4], facts) if len(node.inputs) > 4 else (1,)
    if whole is None or starts is None or ends is None or steps != (1,):
        return None
    return whole[slice(starts[0], ends[0])]
