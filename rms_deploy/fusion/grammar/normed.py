"""normed(x): x / rms, or x * (1 / rms), of the very x that was squared; with the scale on either side of it.

1. x above the root, or times its inverse: not scaled yet.
2. x * w above the root, or times its inverse: scaled.
3. w above the root, or times its inverse (`scale_inverse`): scaled once x is multiplied.
4. x times the inverse that was rounded to the type of x: not scaled yet, and not as in case 1.
Scaling before the division differs from scaling after it by the rounding of one float32 product.
"""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from rms_deploy.fusion.grammar.layout import view
from rms_deploy.fusion.grammar.match import Match, Stage
from rms_deploy.fusion.grammar.scaled import factors, fits, without_size
from rms_deploy.fusion.grammar.square import readings
from rms_deploy.fusion.near_miss import NearMiss, near_miss
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.element_types import HALF

__all__ = ["normed", "scale_inverse"]

_PIECE = "normed"
_LAYOUT = "the mean square is reshaped or transposed, not proven to the shape of x with ones"


def normed(match: Match, node: ir.Node, facts: Facts) -> Match | NearMiss | None:
    """Div(x, root), Mul(x, inverse root), Mul(inverse root, x)"""
    above = _above(match, node)
    if above is None:
        return None
    if not match.keeps_axes:
        reason = "the reduced axes were dropped (keepdims = 0) and not put back, so the root does not line up with x"
        return match.doubt or near_miss(_PIECE, node, reason)
    if match.layout and view(match, above, facts) is None and not any(view(match, x, facts) for x, _ in factors(above)):
        return match.doubt or near_miss("mean_square", node, _LAYOUT)
    mean, product = without_size(match, node, above, facts) if match.is_sum else (match, above)
    whole = _reading_of(product, mean, facts)
    if whole is not None:
        return _normed(whole, node, whole.scale)
    for x, scale in factors(product):
        part = _reading_of(x, mean, facts)
        if part is None:
            continue
        if match.scale is None and fits(scale, part, facts):
            return _normed(part, node, facts.unexpanded(scale, part.x))
    if scale_inverse(match, node, facts) is not None:
        return None
    return match.doubt or near_miss(
        _PIECE, node, f"another tensor is divided by the root ({above.name}) than was squared ({match.x.name})"
    )


def scale_inverse(match: Match, node: ir.Node, facts: Facts) -> Match | None:
    """Div(w, root), Mul(inverse root, w)"""
    scale = _above(match, node)
    if scale is None or scale is match.value or match.scale is not None or not match.keeps_axes or match.layout:
        return None
    if match.is_sum:
        match, scale = without_size(match, node, scale, facts)
    if not fits(scale, match, facts):
        return None
    match = match.keeping_precision(node)
    return match.at(node.outputs[0], Stage.INVERSE_ROOT, scale=facts.unexpanded(scale, match.x))


def _normed(match: Match, node: ir.Node, scale: ir.Value | None) -> Match:
    rounds_reciprocal = match.stage is Stage.ROUNDED_INVERSE and scale is None  # case 4
    match = match if rounds_reciprocal else match.keeping_precision(node)
    narrow = match.dtype in HALF
    unscaled, product = (Stage.ROUNDED, Stage.DONE) if narrow else (Stage.NORMED, Stage.SCALED)
    stage = unscaled if scale is None else product
    orders = {"rounds_before_scale": narrow and scale is not None, "rounds_reciprocal": rounds_reciprocal}
    return match.at(node.outputs[0], stage, scale=scale, **orders)


def _above(match: Match, node: ir.Node) -> ir.Value | None:
    """What is divided by the root, or multiplied by its inverse."""
    if match.stage is Stage.ROOT and node.op_type == "Div" and node.inputs[1] is match.value:
        return node.inputs[0]
    if match.stage in (Stage.INVERSE_ROOT, Stage.ROUNDED_INVERSE) and node.op_type == "Mul":
        return node.inputs[1] if node.inputs[0] is match.value else node.inputs[0]
    return None


def _reading_of(x: ir.Value, match: Match, facts: Facts) -> Match | None:
    """The match as one of a norm of `x`, where `x` or its first part was squared; else None."""
    if match.layout:
        return view(match, x, facts)
    for reading in readings(match.x, facts):
        if not facts.same(x, reading.x):
            continue
        if reading.partial_size is None:
            return replace(match, x=reading.x)
        if match.axes == (-1,):
            shape = facts.shape(reading.x)
            n = shape[-1] if shape and isinstance(shape[-1], int) else None
            return replace(match, x=reading.x, n=n, partial_size=reading.partial_size)
    return view(match, x, facts)
