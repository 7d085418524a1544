"""mean_square(x): ReduceMean(square), and sums of squares divided by n. This is where every norm is anchored.

1. ReduceMean(square); GlobalAveragePool(square), the mean over all axes from the third on, which tf2onnx writes.
2. ReduceSum(square), ReduceSumSquare(x), or Einsum(x, x) that sums over axes; `size.average` makes them a mean.
3. ReduceL2(x): the root of the sum of squares.
4. LpNormalization(x), p = 2: x / ReduceL2(x). ONNX defines it as zero for a row of zeros, as a floor makes it.
5. Axes as attribute, as input, or left out (all axes); positive or negative; one contiguous block.
6. keepdims 1, or 0 followed by Unsqueeze or Reshape, or 0 where the ones were not needed.
"""

from __future__ import annotations

import math
from dataclasses import replace

import onnx_ir as ir

from rms_deploy.fusion.grammar.match import Match, Stage
from rms_deploy.fusion.grammar.square import centred, square
from rms_deploy.fusion.near_miss import NearMiss, near_miss
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.constants import integers
from rms_deploy.onnx_model.inference import Dim
from rms_deploy.ops.element_types import ELEMENT_NAMES, HALF

__all__ = ["anchor", "anchor_einsum", "anchor_normalized", "reshape", "unsqueeze", "variance"]

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
    squared = (source, None) if whole else square(facts.origin(source), facts)
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
        n=_block_size(axes, facts, x),
        dtype=facts.dtype(source) or match.dtype,
        keeps_axes=keeps is None or keeps.as_int() == 1 or _covers_front(axes, facts, x),
    )
    return _with_doubts(match, facts)


def anchor_normalized(node: ir.Node, facts: Facts) -> Match | None:
    """The match at x / |x| of LpNormalization."""
    x = node.inputs[0] if node.inputs else None
    p, axis = (node.attributes.get(name) for name in ("p", "axis"))
    if x is None or (p is not None and (p.is_ref() or p.as_int() != 2)) or (axis is not None and axis.is_ref()):
        return None
    axes = _block((-1 if axis is None else axis.as_int(),), facts.rank(x), node)
    dtype = facts.dtype(x)
    if isinstance(axes, NearMiss) or dtype not in ELEMENT_NAMES:
        return None
    stage = Stage.ROUNDED if dtype in HALF else Stage.NORMED
    n = _block_size(axes, facts, x)
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
    axes = _block(tuple(summed), facts.rank(a) if ellipsis else len(front), node)
    if isinstance(axes, NearMiss):
        return None
    match = Match(Stage.MEAN_SQUARE, node.outputs[0], node, a, axes, _block_size(axes, facts, a), is_sum=True)
    match = match.at(node.outputs[0], dtype=facts.dtype(a) or match.dtype, keeps_axes=_covers_front(axes, facts, a))
    return _with_doubts(match, facts)


def unsqueeze(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """The reduced axes put back as ones."""
    if match.is_norm or match.keeps_axes:
        return None
    attribute = node.attributes.get("axes")
    axes = integers(node.inputs[1], facts) if len(node.inputs) > 1 else attribute and tuple(attribute.as_ints())
    rank = facts.rank(match.x)
    step = match.at(node.outputs[0], keeps_axes=True)
    if axes == match.axes or (axes and rank and {a % rank for a in axes} == {a % rank for a in match.axes}):
        return step
    return step.doubting(_PIECE, node, f"the axes {list(match.axes)} are reduced, but {list(axes or ())} are put back")


def reshape(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """The reduced axes put back as ones, or the shape kept"""
    if match.is_norm or node.inputs[0] is not match.value:
        return None
    new, of_x = facts.shape(node.outputs[0]), facts.shape(match.x)
    step = match.at(node.outputs[0], keeps_axes=True)
    if of_x is not None and new is not None and len(new) == len(of_x):
        block = {axis % len(of_x) for axis in match.axes}
        others = [(new[axis], of_x[axis]) for axis in range(len(of_x)) if axis not in block]
        if all(new[axis] == 1 for axis in block) and _all_but_one_are_equal(others, facts):
            return step
    if facts.same_shape(match.value, node.outputs[0]):
        return match.at(node.outputs[0])
    return step.doubting(_PIECE, node, "the mean square is reshaped, not proven to the shape of x with ones")


def _all_but_one_are_equal(pairs: list[tuple[Dim, Dim]], facts: Facts) -> bool:
    """Whether two shapes of one number of elements are equal: all dims but one are, and so the last is."""
    unproven = [pair for pair in pairs if not facts.same_dim(*pair)]
    # A dim that may be zero proves nothing of the others.
    proof = all(isinstance(a, int) and a > 0 for a, b in pairs if (a, b) not in unproven)
    return not unproven or (len(unproven) == 1 and proof)


def variance(match: Match, node: ir.Node, facts: Facts) -> Match | None:  # noqa: ARG001 - as every piece
    """mean(x^2) - mean(x)^2"""
    if match.stage is not Stage.MEAN_SQUARE:
        return None
    return match.at(node.outputs[0]).doubting(_PIECE, node, "something is subtracted from the mean square: a variance")


def _with_doubts(match: Match, facts: Facts) -> Match:
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
        return match.doubting("square", sub, "x is centred (its mean is subtracted): a LayerNorm")
    return match


def _axes(node: ir.Node, facts: Facts, x: ir.Value) -> tuple[int, ...] | NearMiss | None:
    """The reduced block: negative if it ends at the last axis, else positive. None if nothing is reduced."""
    attribute = node.attributes.get("axes")
    given = node.inputs[1] if len(node.inputs) > 1 else None
    rank = facts.rank(x)
    if node.op_type == "GlobalAveragePool":
        if rank is None:
            return near_miss("axes", node, "all axes but two are averaged over, and the rank of x is not known")
        return _block(tuple(range(2, rank)), rank, node)
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
    return _block(axes, rank, node)


def _block(axes: tuple[int, ...], rank: int | None, node: ir.Node) -> tuple[int, ...] | NearMiss:
    if rank is None and min(axes) < 0 <= max(axes):
        return near_miss("axes", node, f"the axes {list(axes)} mix both signs, and the rank of x is not known")
    if rank is not None and any(not -rank <= axis < rank for axis in axes):
        return near_miss("axes", node, f"the axes {list(axes)} are out of range for rank {rank}")
    block = sorted(axes if rank is None else {axis % rank for axis in axes})
    if not block or block != list(range(block[0], block[0] + len(block))):
        return near_miss("axes", node, f"the axes {list(axes)} are not one contiguous block")
    if rank is not None and block[-1] == rank - 1:
        block = [axis - rank for axis in block]
    return tuple(block)


def _block_size(axes: tuple[int, ...], facts: Facts, x: ir.Value) -> int | None:
    shape = facts.shape(x)
    dims = [] if shape is None else [shape[axis] for axis in axes]
    sizes = [dim for dim in dims if isinstance(dim, int)]
    return math.prod(sizes) if dims and len(sizes) == len(dims) else None


def _covers_front(axes: tuple[int, ...], facts: Facts, x: ir.Value) -> bool:
    """Whether the block begins at the first axis: the statistics broadcast against x without it too."""
    rank = facts.rank(x)
    return axes[0] == 0 or (rank is not None and axes[0] == -rank)
