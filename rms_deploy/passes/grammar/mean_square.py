"""mean_square(x): ReduceMean(square), and sums of squares divided by n. This is where every norm is anchored.

1. ReduceMean(square).
2. ReduceSum(square) or ReduceSumSquare(x), later Div by n or Mul by 1 / n (`average`).
3. Axes as attribute, as input, or left out (all axes); positive or negative; one contiguous block.
4. keepdims 1, or 0 followed by Unsqueeze (`unsqueeze`), or 0 where the ones were not needed.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from rms_deploy.passes.grammar.constants import integers, scalar, why_not_scalar
from rms_deploy.passes.grammar.derivation import Derivation, Refusal, Stage
from rms_deploy.passes.grammar.facts import ELEMENT_NAMES, Facts
from rms_deploy.passes.grammar.square import centred, square

__all__ = ["anchor", "average", "unsqueeze", "variance"]

_PIECE = "mean_square"
_HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def anchor(node: ir.Node, facts: Facts) -> Derivation | None:
    """The derivation that starts at a reduction of squares; None where `node` is none."""
    source = node.inputs[0] if node.inputs else None
    if source is None:
        return None
    squared: tuple[ir.Value, Refusal | None] | None
    squared = (source, None) if node.op_type == "ReduceSumSquare" else square(facts.origin(source), facts)
    if squared is None:
        return None
    x, doubt = squared
    axes = _axes(node, facts, x)
    if axes is None:
        return None
    keeps = node.attributes.get("keepdims")
    stage = Stage.MEAN_SQUARE if node.op_type == "ReduceMean" else Stage.SUM_OF_SQUARES
    found = Derivation(stage, node.outputs[0], node, x, (), None, doubt=doubt)
    if isinstance(axes, Refusal):
        return found.doubting(axes.piece, axes.node, axes.reason)
    found = found.at(
        node.outputs[0],
        axes=axes,
        n=_block_size(axes, facts, x),
        keeps_axes=keeps is None or keeps.as_int() == 1 or _covers_front(axes, facts, x),
    )
    return _with_doubts(found, facts)


def average(found: Derivation, node: ir.Node, facts: Facts) -> Derivation | None:
    """sum of squares / n, or * (1 / n)"""
    if found.stage is not Stage.SUM_OF_SQUARES:
        return None
    if node.op_type == "Div" and node.inputs[0] is not found.value:
        return None
    other = node.inputs[1] if node.inputs[0] is found.value else node.inputs[0]
    step = found.at(node.outputs[0], Stage.MEAN_SQUARE)
    factor = scalar(other, facts, beside=found.value)
    if factor is None:
        return step.doubting(_PIECE, node, f"the number of elements {why_not_scalar(other, facts)}")
    if found.n is None:
        return step.doubting(_PIECE, node, "the sum is divided by a constant, but the size of the axes is not static")
    expected = np.float32(found.n) if node.op_type == "Div" else np.float32(1) / np.float32(found.n)
    if np.float32(factor) != expected:
        reason = f"the sum of {found.n} squares is scaled by {factor:g}, not {float(expected):g}"
        return step.doubting(_PIECE, node, reason)
    return step


def unsqueeze(found: Derivation, node: ir.Node, facts: Facts) -> Derivation | None:
    """The reduced axes put back as ones."""
    if found.is_norm or found.keeps_axes:
        return None
    attribute = node.attributes.get("axes")
    axes = integers(node.inputs[1], facts) if len(node.inputs) > 1 else attribute and tuple(attribute.as_ints())
    rank = facts.rank(found.x)
    step = found.at(node.outputs[0], keeps_axes=True)
    if axes == found.axes or (axes and rank and {a % rank for a in axes} == {a % rank for a in found.axes}):
        return step
    return step.doubting(_PIECE, node, f"the axes {list(found.axes)} are reduced, but {list(axes or ())} are put back")


def variance(found: Derivation, node: ir.Node, facts: Facts) -> Derivation | None:  # noqa: ARG001 - as every piece
    """mean(x^2) - mean(x)^2"""
    if found.stage is not Stage.MEAN_SQUARE:
        return None
    return found.at(node.outputs[0]).doubting(_PIECE, node, "something is subtracted from the mean square: a variance")


def _with_doubts(found: Derivation, facts: Facts) -> Derivation:
    dtype, node = facts.dtype(found.x), found.anchor
    if dtype is None:
        return found.doubting("casts", node, "the element type of x is not known, and shape inference cannot tell it")
    if dtype in _HALF:
        reason = f"x is squared in {ELEMENT_NAMES[dtype]}; the op computes in float32, which would change the precision"
        return found.doubting("casts", node, reason)
    if dtype != ir.DataType.FLOAT:
        return found.doubting("casts", node, f"x is squared in {dtype.name.lower()}; the op computes in float32")
    sub = centred(found.x, facts)
    if sub is not None:
        return found.doubting("square", sub, "x is centred (its mean is subtracted): a LayerNorm")
    return found


def _axes(node: ir.Node, facts: Facts, x: ir.Value) -> tuple[int, ...] | Refusal | None:
    """The reduced block: negative if it ends at the last axis, else positive. None if nothing is reduced."""
    attribute = node.attributes.get("axes")
    given = node.inputs[1] if len(node.inputs) > 1 else None
    rank = facts.rank(x)
    if given is not None:
        axes = integers(given, facts)
        if axes is None:
            return Refusal("axes", node, "the axes are not constant")
    else:
        axes = () if attribute is None else tuple(attribute.as_ints())
    if not axes:
        noop = node.attributes.get("noop_with_empty_axes")
        if noop is not None and noop.as_int():
            return None
        if rank is None:
            return Refusal("axes", node, "all axes are reduced, but the rank of x is not known")
        axes = tuple(range(rank))
    return _block(axes, rank, node)


def _block(axes: tuple[int, ...], rank: int | None, node: ir.Node) -> tuple[int, ...] | Refusal:
    if rank is None and min(axes) < 0 <= max(axes):
        return Refusal("axes", node, f"the axes {list(axes)} mix both signs, and the rank of x is not known")
    if rank is not None and any(not -rank <= axis < rank for axis in axes):
        return Refusal("axes", node, f"the axes {list(axes)} are out of range for rank {rank}")
    block = sorted(axes if rank is None else {axis % rank for axis in axes})
    if not block or block != list(range(block[0], block[0] + len(block))):
        return Refusal("axes", node, f"the axes {list(axes)} are not one contiguous block")
    if rank is not None and block[-1] == rank - 1:
        block = [axis - rank for axis in block]
    return tuple(block)


def _block_size(axes: tuple[int, ...], facts: Facts, x: ir.Value) -> int | None:
    shape = facts.shape(x)
    dims = [] if shape is None else [shape[axis] for axis in axes]
    sizes = [dim for dim in dims if isinstance(dim, int)]
    return math.prod(sizes) if dims and len(sizes) == len(dims) else None


def _covers_front(axes: tuple[int, ...], facts: Facts, x: ir.Value) -> bool:
    """Whether the block begins at the first axis, so that dropping it leaves what broadcasts all the same."""
    rank = facts.rank(x)
    return axes[0] == 0 or (rank is not None and axes[0] == -rank)
