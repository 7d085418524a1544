"""mean_square(x) by operators that are no reductions: a pooling or a product whose weights are all equal.

1. AveragePool whose window is all there is.
2. MatMul with [n, 1], and Conv of 1x1 from all channels to one, with weights of 1/n, or of 1 for a sum.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from rms_deploy.fusion.grammar.match import Match, Stage
from rms_deploy.fusion.grammar.mean_square import block_size, with_doubts
from rms_deploy.fusion.grammar.square import square_behind
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.constants import constant
from rms_deploy.ops.nodes import given_inputs

__all__ = ["anchor_pool", "anchor_product"]

_PIECE = "mean_square"
_TOLERANCE: Final = 2.0**-10


def anchor_pool(node: ir.Node, facts: Facts) -> Match | None:
    """The match that starts at AveragePool(square)."""
    match, rank = _begun(node, facts)
    if match is None:
        return None
    match = match.at(match.value, axes=tuple(range(2 - (rank or 3), 0)))
    match = with_doubts(match.at(match.value, n=block_size(match.axes, facts, match.x) if rank else None), facts)
    given = {
        name: node.attributes[name].value for name in ("kernel_shape", "pads", "dilations") if name in node.attributes
    }
    shape = facts.shape(match.x)
    padding, kernel = node.attributes.get("auto_pad"), tuple(given.get("kernel_shape") or ())
    is_padded = any(given.get("pads") or ()) or (padding is not None and padding.as_string() not in ("NOTSET", "VALID"))
    is_whole = (
        shape is not None and kernel == shape[2:] and not is_padded and set(given.get("dilations") or (1,)) == {1}
    )
    return (
        match if is_whole else match.doubting(_PIECE, node, "the squares are averaged over windows, not over all of x")
    )


def anchor_product(node: ir.Node, facts: Facts) -> Match | None:
    """The match that starts at MatMul(square, weights) or Conv(square, weights)."""
    inputs = given_inputs(node)
    weights = inputs[1] if len(inputs) == 2 else None
    shape = None if weights is None else facts.shape(weights)
    is_conv = node.op_type == "Conv"
    if weights is None or shape is None or not (_is_mixing(node, shape) if is_conv else shape[1:] == (1,)):
        return None
    match, rank = _begun(node, facts)
    if match is None or (is_conv and rank is None):
        return None
    axes = (1,) if is_conv and rank != 2 else (-1,)
    match = with_doubts(match.at(match.value, axes=axes, n=block_size(axes, facts, match.x)), facts)
    array = constant(weights, facts)
    if array is None or not match.n:
        return match.doubting(_PIECE, node, f"the squares are weighted by {weights.name}, which is not known to be 1/n")
    weight = float(array.reshape(-1)[0])
    if not (array == array.reshape(-1)[0]).all() or not np.isclose(weight * match.n, (1, match.n), _TOLERANCE, 0).any():
        return match.doubting(_PIECE, node, f"the squares are weighted by {weights.name}, which is not 1/n")
    return match.at(match.value, is_sum=bool(np.isclose(weight, 1, _TOLERANCE, 0)) and match.n != 1)


def _begun(node: ir.Node, facts: Facts) -> tuple[Match | None, int | None]:
    """The match, without axes, and the rank of x."""
    source = node.inputs[0] if node.inputs else None
    squared = None if source is None else square_behind(source, facts)
    if source is None or squared is None:
        return None, None
    x, doubt = squared
    match = Match(Stage.MEAN_SQUARE, node.outputs[0], node, x, (), None, doubt=doubt)
    return match.at(match.value, dtype=facts.dtype(source) or match.dtype), facts.rank(x)


def _is_mixing(node: ir.Node, shape: tuple[int | str | None, ...]) -> bool:
    """Whether a Conv adds up the channels of one place to one channel."""
    given = {name: a.value for name, a in node.attributes.items() if name in ("group", "pads", "strides", "auto_pad")}
    is_plain = (
        not any(given.get("pads") or ()) and set(given.get("strides") or (1,)) == {1} and given.get("group", 1) == 1
    )
    return (
        is_plain and given.get("auto_pad", "NOTSET") in ("NOTSET", "VALID") and shape[0] == 1 and set(shape[2:]) <= {1}
    )
