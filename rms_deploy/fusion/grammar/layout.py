"""The layout of the statistics against x: ones put back or taken away, another shape, another order of axes.

1. Unsqueeze, Reshape: the reduced axes put back as ones. Squeeze takes them away.
2. Any Reshape, Squeeze, Unsqueeze or Flatten of statistics over trailing axes keeps the order of the rows. So they line
   up with every reshaped x whose rows are the same: `view` proves it where x is divided.
3. Transpose of the statistics, of x, or of both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import onnx_ir as ir

from rms_deploy.fusion.grammar.match import Match
from rms_deploy.fusion.grammar.mean_square import block
from rms_deploy.fusion.near_miss import NearMiss
from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.constants import integers
from rms_deploy.onnx_model.inference import Dim

__all__ = ["RESHAPED", "reshape", "squeeze", "transpose", "unsqueeze", "view"]

RESHAPED: Final = ("reshaped",)
"""`Match.layout` of statistics whose rows are in order and whose shape is another."""

_PIECE = "mean_square"
_RESHAPES: Final = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")
_MAX_STEPS: Final = 8


def unsqueeze(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """The reduced axes put back as ones"""
    if match.is_norm:
        return None
    if match.keeps_axes or match.layout:
        return reshape(match, node, facts)
    axes = _axes(node, facts)
    rank = facts.rank(match.x)
    step = match.at(node.outputs[0], keeps_axes=True)
    if axes == match.axes or (axes and rank and {a % rank for a in axes} == {a % rank for a in match.axes}):
        return step
    reason = f"the axes {list(match.axes)} are reduced, but {list(axes or ())} are put back"
    other_rank = facts.rank(node.outputs[0]) not in (None, rank)
    return (_reshaped(match, node, facts) if other_rank else None) or step.doubting(_PIECE, node, reason)


def squeeze(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """The reduced axes, which are ones, taken away"""
    axes, rank = _axes(node, facts), facts.rank(match.x)
    if match.is_norm:
        return None
    if match.keeps_axes and not match.layout and axes:
        both = [{a % rank for a in some} if rank else set(some) for some in (axes, match.axes)]
        if both[0] == both[1]:
            return match.at(node.outputs[0], keeps_axes=False)
    return reshape(match, node, facts)


def reshape(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """The reduced axes put back as ones, or the shape kept, or the same rows in another shape"""
    if match.is_norm or node.inputs[0] is not match.value:
        return None
    new, of_x = facts.shape(node.outputs[0]), facts.shape(match.x)
    if (
        of_x is not None
        and new is not None
        and len(new) == len(of_x)
        and (not match.layout or match.layout == RESHAPED)
    ):
        reduced = {axis % len(of_x) for axis in match.axes}
        others = [(new[axis], of_x[axis]) for axis in range(len(of_x)) if axis not in reduced]
        if all(new[axis] == 1 for axis in reduced) and _all_but_one_are_equal(others, facts):
            return match.at(node.outputs[0], keeps_axes=True, layout=())
    if facts.same_shape(match.value, node.outputs[0]):
        return match.at(node.outputs[0])
    step = match.at(node.outputs[0], keeps_axes=True)
    return _reshaped(match, node, facts) or step.doubting(_PIECE, node, _NOT_PROVEN)


_NOT_PROVEN: Final = "the mean square is reshaped, not proven to the shape of x with ones"


def transpose(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """The axes of the statistics in another order"""
    if match.is_norm or not match.keeps_axes:
        return None
    order = _order(node, facts)
    if order is None or match.layout == RESHAPED:
        return match.at(node.outputs[0]).doubting(
            _PIECE, node, "the mean square is transposed, not proven to be as x is"
        )
    before = match.layout or tuple(range(len(order)))
    both = tuple(before[axis] for axis in order)
    return match.at(node.outputs[0], layout=() if both == tuple(range(len(both))) else both)


def view(match: Match, of: ir.Value, facts: Facts) -> Match | None:
    """The match as one of a norm of `of`, which holds the elements of x in another shape or order of axes."""
    if match.partial_size is not None or not match.keeps_axes:
        return None
    if match.layout and match.layout != RESHAPED:
        return _transposed(match, of, facts)
    if match.axes[-1:] != (-1,) or not match.n or facts.same(of, match.x):
        return None
    shape, rows = facts.shape(of), facts.shape(match.value)
    if shape is None or rows is None or len(shape) != len(rows):
        return None
    source = _unreshaped(match.x, facts)
    if not facts.same(source, _unreshaped(of, facts)):
        return None
    for count in range(1, len(shape) + 1):
        dims = [dim for dim in shape[-count:] if isinstance(dim, int)]
        if len(dims) != count or math.prod(dims) > match.n:
            return None
        if math.prod(dims) == match.n and all(dim == 1 for dim in rows[-count:]):
            pairs = list(zip(shape[:-count], rows[:-count], strict=True))
            axes = tuple(range(-count, 0))
            seen = replace(match, x=of, axes=axes, layout=(), source=source)
            return seen if _all_but_one_are_equal(pairs, facts) else None
    return None


def _reshaped(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """Case 2."""
    is_in_order = match.axes[-1:] == (-1,) and (not match.layout or match.layout == RESHAPED)
    if not is_in_order or facts.shape(node.outputs[0]) is None:
        return None
    return match.at(node.outputs[0], keeps_axes=True, layout=RESHAPED)


def _axes(node: ir.Node, facts: Facts) -> tuple[int, ...] | None:
    attribute = node.attributes.get("axes")
    if len(node.inputs) > 1:
        return integers(node.inputs[1], facts)
    return None if attribute is None or attribute.is_ref() else tuple(attribute.as_ints())


def _unreshaped(value: ir.Value, facts: Facts) -> ir.Value:
    for _ in range(_MAX_STEPS):
        value = facts.origin(value)
        node = value.producer()
        if node is None or not is_op(node, *_RESHAPES) or node.inputs[0] is None:
            break
        value = node.inputs[0]
    return value


def _transposed(match: Match, of: ir.Value, facts: Facts) -> Match | None:
    """Case 3: `of` is x with its axes in the order of the statistics."""
    source, order = _untransposed(match.x, facts)
    other, order_of = _untransposed(of, facts)
    rank = len(match.layout)
    axes_of = [axis for axis in match.layout if isinstance(axis, int)]
    order, order_of = order or tuple(range(rank)), order_of or tuple(range(rank))
    if len(order) != rank or len(order_of) != rank or not facts.same(source, other):
        return None
    if tuple(order[axis] for axis in axes_of) != order_of:
        return None
    reduced = {axis % rank for axis in match.axes}
    axes = block(tuple(i for i, axis in enumerate(axes_of) if axis in reduced), rank, match.anchor)
    return None if isinstance(axes, NearMiss) else replace(match, x=of, axes=axes, layout=(), source=source)


def _untransposed(value: ir.Value, facts: Facts) -> tuple[ir.Value, tuple[int, ...]]:
    """The value before its Transposes, and the order of axes that they made; (): there was none."""
    order: tuple[int, ...] = ()
    for _ in range(_MAX_STEPS):
        value = facts.origin(value)
        node = value.producer()
        own = None if node is None or not is_op(node, "Transpose") else _order(node, facts)
        if node is None or own is None or node.inputs[0] is None or (order and len(order) != len(own)):
            break
        order = tuple(own[axis] for axis in order) if order else own
        value = node.inputs[0]
    return value, order


def _order(node: ir.Node, facts: Facts) -> tuple[int, ...] | None:
    perm = node.attributes.get("perm")
    if perm is not None:
        order = () if perm.is_ref() else tuple(perm.as_ints())
        return order if order and sorted(order) == list(range(len(order))) else None
    rank = None if node.inputs[0] is None else facts.rank(node.inputs[0])
    return None if rank is None else tuple(reversed(range(rank)))


def _all_but_one_are_equal(pairs: Sequence[tuple[Dim, Dim]], facts: Facts) -> bool:
    """Whether two shapes of one number of elements are equal: all dims but one are, and so the last is."""
    unproven = [pair for pair in pairs if not facts.same_dim(*pair)]
    # A dim that may be zero proves nothing of the others.
    proof = all(isinstance(a, int) and a > 0 for a, b in pairs if (a, b) not in unproven)
    return not unproven or (len(unproven) == 1 and proof)
