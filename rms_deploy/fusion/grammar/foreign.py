"""Norms that are one node already, as anchors: their output is a scaled norm, and casts may follow.

1. RMSNormalization (ONNX, opset 23 and later): rounds x / rms to the type of x, then scales. torch's exporter also
   writes it with x in float16 and scale in float32, or the other way round, which ONNX does not define; it means to
   scale in float32. A scale that the op does not take, such as [b, 1, h, d] over d, stays a product after the norm.
2. SimplifiedLayerNormalization (ONNX Runtime, in its own domain or in ONNX's): scales in float32, rounds once.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import onnx_ir as ir

from rms_deploy.fusion.grammar.match import Match, Stage
from rms_deploy.fusion.grammar.scaled import fits, is_inside
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.inference import Shape
from rms_deploy.ops.element_types import ELEMENT_NAMES, HALF
from rms_deploy.ops.foreign_ops import FOREIGN_NORMS, RMS_NORMALIZATION

__all__ = ["anchor_foreign"]

_MAX_RANK: Final = 64
"""Axes that an x of unknown rank may have."""


def anchor_foreign(node: ir.Node, facts: Facts) -> Match | None:
    """The match at the output of one node that is a whole norm; None where it is not one."""
    if len(node.inputs) < 2 or node.inputs[0] is None or node.inputs[1] is None:
        return None
    x, scale, output = node.inputs[0], node.inputs[1], node.outputs[0]
    attributes = [node.attributes.get(name) for name in ("axis", "stash_type", "epsilon")]
    match = Match(Stage.DONE, output, node, x, (-1,), None, scale=scale)
    if any(attribute is not None and attribute.is_ref() for attribute in attributes):
        return match.doubting("foreign", node, "an attribute is a parameter of the function around it")
    axis, stash_type = (1 if a is None and i else -1 if a is None else a.as_int() for i, a in enumerate(attributes[:2]))
    epsilon = FOREIGN_NORMS[node.op_type].epsilon if attributes[2] is None else attributes[2].as_float()
    match = _with_axes(match, axis, facts).at(output, epsilon=epsilon)
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return match.doubting("foreign", node, "its second output is used")
    if stash_type != ir.DataType.FLOAT:
        return match.doubting("foreign", node, f"stash_type is {stash_type}; the op computes in float32")
    if not math.isfinite(epsilon) or epsilon < 0:
        return match.doubting("epsilon", node, f"epsilon is {epsilon:g}; it must be finite and not negative")
    match = _typed(match, facts)
    shape = facts.shape(scale)
    # By the definition of these ops the scale has the shape of the axes, also where the size of x is not known.
    of_x = facts.shape(x)
    is_sized = of_x is not None and (not of_x or isinstance(of_x[-1], int))
    defined = not is_sized and shape is not None and len(shape) == 1 and match.axes == (-1,)
    if match.doubt is None and not defined and not fits(scale, match, facts):
        block = _smaller(shape, match, facts)
        if block is not None:
            return replace(match, scale_shape=block)
        if (match.rounds_before_scale or facts.dtype(x) == ir.DataType.FLOAT) and is_inside(scale, match, facts):
            stage = Stage.NORMED if match.dtype == ir.DataType.FLOAT else Stage.ROUNDED
            return match.at(output, stage, scale=None, factor=scale, rounds_before_scale=False)
        return match.doubting("scaled", node, f"scale has the shape {shape and list(shape)}, which is not that of axes")
    return match


def _smaller(shape: Shape | None, match: Match, facts: Facts) -> tuple[int, ...] | None:
    """The dims of the block, if a scale of `shape` has fewer elements and broadcasts into them."""
    of_x = facts.shape(match.x)
    block = () if of_x is None else tuple(of_x[axis] for axis in match.axes)
    static = tuple(dim for dim in block if isinstance(dim, int))
    if shape is None or len(static) != len(match.axes) or len(shape) > len(static):
        return None
    pairs = zip(shape, static[len(static) - len(shape) :], strict=True)
    return static if all(dim in (1, size) for dim, size in pairs) else None


def _with_axes(match: Match, axis: int, facts: Facts) -> Match:
    shape = facts.shape(match.x)
    if shape is None:
        if axis >= 0:
            return match.doubting("axes", match.anchor, f"axis is {axis}, and the rank of x is not known")
        if axis < -_MAX_RANK:
            return match.doubting("axes", match.anchor, f"axis is {axis}; no x has so many axes")
        return match.at(match.value, axes=tuple(range(axis, 0)))
    if not -len(shape) <= axis < len(shape):
        return match.doubting("axes", match.anchor, f"axis {axis} is out of range for rank {len(shape)}")
    axes = tuple(range(axis if axis < 0 else axis - len(shape), 0))
    dims = [dim for dim in shape[len(shape) - len(axes) :] if isinstance(dim, int)]
    return match.at(match.value, axes=axes, n=math.prod(dims) if len(dims) == len(axes) else None)


def _typed(match: Match, facts: Facts) -> Match:
    """The stage that the types of x and scale say."""
    assert match.scale is not None
    of_x, of_scale = facts.dtype(match.x), facts.dtype(match.scale)
    if of_x not in ELEMENT_NAMES or of_scale is None:
        return match.doubting("foreign", match.anchor, "x is not known to be float32, float16 or bfloat16")
    is_standard = match.anchor.op_type == RMS_NORMALIZATION.op_type
    if of_scale == ir.DataType.FLOAT != of_x == match.value.dtype:  # not what ONNX says, but what the file does
        return match.at(match.value, dtype=of_x)
    if of_scale == ir.DataType.FLOAT:
        return match.at(match.value, Stage.SCALED)
    is_mirrored = is_standard and of_x == ir.DataType.FLOAT and of_scale in HALF
    if is_mirrored and match.value.dtype in (None, of_x):
        return match.at(match.value, Stage.SCALED)
    if of_scale == of_x:
        return match.at(match.value, dtype=of_x, rounds_before_scale=is_standard)
    return match.doubting(
        "foreign", match.anchor, f"scale is {of_scale.name.lower()} beside x in {ELEMENT_NAMES[of_x]}"
    )
