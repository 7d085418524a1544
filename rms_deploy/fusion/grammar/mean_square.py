"""mean_square(x): ReduceMean(square), and sums of squares divided by n. This is where every norm is anchored.

1. ReduceMean(square); GlobalAveragePool(square), the mean over all axes from the third on, which tf2onnx writes.
2. ReduceSum(square), ReduceSumSquare(x), or Einsum(x, x) that sums over axes; `size.average` makes them a mean.
3. ReduceL2(x): the root of the sum of squares.
4. LpNormalization(x), p = 2: x / ReduceL2(x). ONNX defines it as zero for a row of zeros, as a floor makes it.
5. Axes as attribute, as input, or left out (all axes); positive or negative; one contiguous block.
6. keepdims 1, or 0 followed by what `layout` knows, or 0 where the ones were not needed.
7. A mean of means, or a sum of sums, over further axes.
8. A square that is quantised before it is averaged: a near miss.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import onnx_ir as ir

from rms_deploy.fusion.grammar.match import Match, Stage
from rms_deploy.fusion.grammar.square import centred, square, square_behind
from rms_deploy.fusion.near_miss import NearMiss, near_miss
from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.constants import integers
from rms_deploy.onnx_model.last_size import last_size
from rms_deploy.onnx_model.tensor_check import MAX_RANK
from rms_deploy.ops.element_types import ELEMENT_NAMES, HALF

__all__ = [
    "VARIANCE",
    "again",
    "anchor",
    "anchor_einsum",
    "anchor_normalized",
    "block",
    "block_size",
    "variance",
    "with_doubts",
]

VARIANCE: Final = "variance"
"""The piece of what is a variance: it belongs to a LayerNorm or the like, and is no near miss."""

_PIECE = "mean_square"

_MEANS = ("ReduceMean", "GlobalAveragePool")

_LEAST_ROOT = 2.0**-63
"""The smallest root whose square float32 holds in full precision."""


def anchor(node: ir.Node, facts: Facts) -> Match | None:
    """The match that starts at a reduction of squares; None where `node` is none."""
    source = node.inputs[0] if node.inputs else None
    if source is None:
        return None
    squared: tuple[ir.Value, NearMiss | None] | None
    whole = node.op_type in ("ReduceSumSquare", "ReduceL2")
    squared = (source, None) if whole else square_behind(source, facts)
    if squared is None:
        return None
    x, doubt = squared
    axes = _axes(node, facts, x)
    if axes is None:
        return None
    keeps = node.attributes.get("keepdims")
    stage = Stage.ROOT if node.op_type == "ReduceL2" else Stage.MEAN_SQUARE
    match = Match(stage, node.outputs[0], node, x, (), None, is_sum=node.op_type not in _MEANS, doubt=doubt)
    if isinstance(axes, NearMiss):
        return replace(match, doubt=match.doubt or axes)
    match = match.at(
        node.outputs[0],
        axes=axes,
        n=block_size(axes, facts, x),
        dtype=facts.dtype(source) or match.dtype,
        keeps_axes=keeps is None or keeps.as_int() == 1 or _covers_front(axes, facts, x),
    )
    return with_doubts(match, facts)


def anchor_normalized(node: ir.Node, facts: Facts) -> Match | None:
    """The match at x / |x| of LpNormalization."""
    x = node.inputs[0] if node.inputs else None
    p, axis = (node.attributes.get(name) for name in ("p", "axis"))
    if x is None or (p is not None and (p.is_ref() or p.as_int() != 2)) or (axis is not None and axis.is_ref()):
        return None
    axes = block((-1 if axis is None else axis.as_int(),), facts.rank(x), node)
    dtype = facts.dtype(x)
    if isinstance(axes, NearMiss) or dtype not in ELEMENT_NAMES:
        return None
    stage = Stage.ROUNDED if dtype in HALF else Stage.NORMED
    n = block_size(axes, facts, x)
    return Match(stage, node.outputs[0], node, x, axes, n, dtype=dtype, is_sum=True, rms_min=_LEAST_ROOT)


def anchor_einsum(node: ir.Node, facts: Facts) -> Match | None:
    """The match at Einsum(x, x) such as "bsd,bsd->bs"."""
    equation = node.attributes.get("equation")
    if equation is None or equation.is_ref() or len(node.inputs) != 2:
        return None
    a, b = node.inputs
    terms, _, out = equation.as_string().replace(" ", "").partition("->")
    first, _, second = terms.partition(",")
    letters = first.replace("...", "")
    if a is None or b is None or first != second or not facts.same(a, b) or len(set(letters)) != len(letters):
        return None
    # The letters that are summed over; before an ellipsis they count from the front, after it from the end.
    front, ellipsis, back = first.partition("...")
    kept = "".join(letter for letter in first if letter in out or letter == ".")
    if not (front + back).isalpha() or kept != out or len(out) == len(first) or (ellipsis and facts.rank(a) is None):
        return None
    summed = [i for i, letter in enumerate(front) if letter not in out]
    summed += [i - len(back) for i, letter in enumerate(back) if letter not in out]
    axes = block(tuple(summed), facts.rank(a) if ellipsis else len(front), node)
    if isinstance(axes, NearMiss):
        return None
    match = Match(Stage.MEAN_SQUARE, node.outputs[0], node, a, axes, block_size(axes, facts, a), is_sum=True)
    match = match.at(node.outputs[0], dtype=facts.dtype(a) or match.dtype, keeps_axes=_covers_front(axes, facts, a))
    return with_doubts(match, facts)


def again(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """The mean of means, or the sum of sums, over further axes"""
    if match.stage is not Stage.MEAN_SQUARE or match.epsilon is not None or match.rms_min is not None or match.layout:
        return None
    further, rank = _axes(node, facts, match.value), facts.rank(match.x)
    if further is None or isinstance(further, NearMiss):
        return further if further is None else match.at(node.outputs[0]).doubting("axes", node, further.reason)
    step = match.at(node.outputs[0])
    if match.is_sum is (node.op_type == "ReduceMean"):
        return step.doubting(_PIECE, node, "squares are summed over some axes and averaged over others")
    if rank is None or facts.rank(match.value) is None:
        return step.doubting("axes", node, "the mean is taken in two steps, and the rank of x is not known")
    reduced = {axis % rank for axis in match.axes}
    left = list(range(rank)) if match.keeps_axes else [axis for axis in range(rank) if axis not in reduced]
    axes = block((*reduced, *(left[axis] for axis in further)), rank, node)
    if isinstance(axes, NearMiss):
        return step.doubting("axes", node, axes.reason)
    keeps = node.attributes.get("keepdims")
    keeps_last = keeps is None or keeps.as_int() == 1
    if keeps_last is not match.keeps_axes and not _covers_front(axes, facts, match.x):
        return step.doubting("axes", node, "one of two means drops the axes that it reduces, and one keeps them")
    keeps_axes = keeps_last or _covers_front(axes, facts, match.x)
    return replace(step, axes=axes, n=block_size(axes, facts, match.x), keeps_axes=keeps_axes)


def variance(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """mean(x^2) - mean(x)^2"""
    if match.stage is not Stage.MEAN_SQUARE:
        return None
    step = match.at(node.outputs[0])
    if node.inputs[0] is match.value and node.inputs[1] is not None and _is_square_of_mean(node.inputs[1], facts):
        return replace(step, doubt=near_miss(VARIANCE, node, "the square of the mean is subtracted: a variance"))
    return step.doubting(_PIECE, node, "something is subtracted from the mean square")


def _is_square_of_mean(value: ir.Value, facts: Facts) -> bool:
    squared = square(facts.origin(value), facts)
    mean = None if squared is None else facts.origin(squared[0]).producer()
    return is_op(mean, "ReduceMean", "ReduceSum", "GlobalAveragePool", "Mul", "Div", "Unsqueeze", "Reshape")


def with_doubts(match: Match, facts: Facts) -> Match:
    dtype, node = facts.dtype(match.x), match.anchor
    if dtype is None:
        return match.doubting("casts", node, "the element type of x is not known, and shape inference cannot tell it")
    if dtype in HALF:
        reason = f"x is squared in {ELEMENT_NAMES[dtype]}; the op computes in float32, which would change the precision"
        match = match.gaining(node, reason)
    elif facts.dtype(facts.origin(match.x)) not in ELEMENT_NAMES:
        return match.doubting("casts", node, f"x is squared in {dtype.name.lower()}; the op computes in float32")
    sub = centred(match.x, facts)
    if sub is not None:
        return replace(match, doubt=near_miss(VARIANCE, sub, "x is centred (its mean is subtracted): a LayerNorm"))
    return match


def _axes(node: ir.Node, facts: Facts, x: ir.Value) -> tuple[int, ...] | NearMiss | None:
    """The reduced block: negative if it ends at the last axis, else positive. None if nothing is reduced."""
    attribute = node.attributes.get("axes")
    given = node.inputs[1] if len(node.inputs) > 1 else None
    rank = facts.rank(x)
    if node.op_type == "GlobalAveragePool":
        if rank is None:
            return near_miss("axes", node, "all axes but two are averaged over, and the rank of x is not known")
        return block(tuple(range(2, rank)), rank, node)
    if given is not None:
        axes = integers(given, facts)
        if axes is None:
            return near_miss("axes", node, "the axes are not constant")
    else:
        axes = () if attribute is None else tuple(attribute.as_ints())
    if not axes:
        noop = node.attributes.get("noop_with_empty_axes")
        if noop is not None and noop.as_int():
            return None
        if rank is None:
            return near_miss("axes", node, "all axes are reduced, but the rank of x is not known")
        axes = tuple(range(rank))
    return block(axes, rank, node)


def block(axes: tuple[int, ...], rank: int | None, node: ir.Node) -> tuple[int, ...] | NearMiss:
    if rank is None and min(axes) < 0 <= max(axes):
        return near_miss("axes", node, f"the axes {list(axes)} mix both signs, and the rank of x is not known")
    most, of = (MAX_RANK, "any rank") if rank is None else (rank, f"rank {rank}")
    if any(not -most <= axis < most for axis in axes):
        return near_miss("axes", node, f"the axes {list(axes)} are out of range for {of}")
    block = sorted(axes if rank is None else {axis % rank for axis in axes})
    if not block or block != list(range(block[0], block[0] + len(block))):
        return near_miss("axes", node, f"the axes {list(axes)} are not one contiguous block")
    if rank is not None and block[-1] == rank - 1:
        block = [axis - rank for axis in block]
    return tuple(block)


def block_size(axes: tuple[int, ...], facts: Facts, x: ir.Value) -> int | None:
    shape = facts.shape(x)
    if axes == (-1,) and (shape is None or not isinstance(shape[-1], int)):
        return last_size(x, facts)
    dims = [] if shape is None else [shape[axis] for axis in axes]
    sizes = [dim for dim in dims if isinstance(dim, int)]
    return math.prod(sizes) if dims and len(sizes) == len(dims) else None


def _covers_front(axes: tuple[int, ...], facts: Facts, x: ir.Value) -> bool:
    """Whether the block begins at the first axis: the statistics broadcast against x without it too."""
    rank = facts.rank(x)
    return axes[0] == 0 or (rank is not None and axes[0] == -rank)
