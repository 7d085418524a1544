"""Our ops as ONNX Runtime's own norms, for users who cannot load a library."""

from __future__ import annotations

import logging
import math
from typing import Final

import onnx_ir as ir

from rms_deploy.fusion.passes.bare_norm import bare_norm, is_bare
from rms_deploy.fusion.passes.expand_scale import expanded, integers
from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.split_scale import has_wide_scale, split_scale
from rms_deploy.fusion.passes.trailing_axes import block_of, why_not_trailing
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.foreign_ops import (
    CONTRIB_DOMAIN,
    SIMPLIFIED_LAYER_NORMALIZATION,
    SKIP_SIMPLIFIED_LAYER_NORMALIZATION,
)
from rms_deploy.ops.nodes import axes_of, float_of, int_of, norm_nodes, scale_of

__all__ = ["LowerToOnnxRuntime"]

_NORM: Final = SIMPLIFIED_LAYER_NORMALIZATION.op_type
_SKIP_NORM: Final = SKIP_SIMPLIFIED_LAYER_NORMALIZATION.op_type

_log = logging.getLogger(__name__)


class LowerToOnnxRuntime(ir.passes.InPlacePass):
    """Replace our nodes by SimplifiedLayerNormalization and SkipSimplifiedLayerNormalization.

    1. RMSNorm: SimplifiedLayerNormalization, with scale as a vector of the type of X.
    2. AddRMSNorm over the last axis of rank 2 or 3: SkipSimplifiedLayerNormalization, its sum in the fourth output.
    3. Other AddRMSNorms: Add, and 1 on the sum.
    4. Both ops scale in float32 and round once. Half types that round before they scale change by up to one unit in the
       last place in about a quarter of all elements; a warning says how many norms that are.
    5. A scale that is wider than the axes is a Mul after a norm with a scale of one, and no number changes.
    6. A sum in another type than X, a gate, a shift, and quantisation are split off first.
    7. What they cannot express stays our node, and is named in a warning: the partial op, a rounded reciprocal,
       `rms_epsilon` or `rms_min`, axes that do not end with the last, a scale in float32 beside a half type, a scalar
       scale beside unknown dims.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Lower in place."""
        modified, rounded_otherwise, into, opset = False, 0, NewNodes(model), model.opset_imports[""]
        for node in list(norm_nodes(model)):
            reason = why_not_trailing(node, _NORM)
            if reason is None and not is_bare(node):
                node = bare_norm(node, into, opset)
                modified = True
            reason = reason or _why_no_scale(node)
            if reason is not None:
                name = node.name or node.outputs[0].name
                _log.warning("%s (%s): stays a %s node: %s", name, node.op_type, DOMAIN, reason)
                continue
            if has_wide_scale(node):
                node = split_scale(node, into)
            else:
                rounded_otherwise += int_of(node, "scale_type") != ir.DataType.FLOAT
            _lower(node, into, opset)
            modified = True
        if rounded_otherwise:
            _log.warning(
                "%d norms round to a half type before they scale; %s rounds once, after it: elements differ by one "
                "unit in the last place",
                rounded_otherwise,
                _NORM,
            )
        if modified and not any(norm_nodes(model)):
            model.opset_imports.pop(DOMAIN, None)
        return ir.passes.PassResult(model, modified)


def _why_no_scale(node: ir.Node) -> str | None:
    x, scale = node.inputs[0], scale_of(node)
    assert x is not None
    if scale is None or scale.shape is None or scale.dtype is None:
        return "the shape or the type of scale is not known"
    if has_wide_scale(node):
        return None if block_of(node) else "the size of the axes is not static"
    if scale.dtype != x.dtype and _is_wide(scale, x) and math.prod(_static(scale.shape)) != 1:
        return f"{_NORM} has no scale in float32 beside X in a half type"
    if any(dim == 0 for dim in scale.shape):
        return f"{_NORM} refuses axes without elements"
    return None if block_of(node) or _is_vector(node) else "scale is no vector, and the size of the axes is not static"


def _is_wide(scale: ir.Value, x: ir.Value) -> bool:
    return scale.dtype == ir.DataType.FLOAT != x.dtype


def _static(shape: ir.Shape) -> tuple[int, ...]:
    dims = tuple(dim for dim in shape if isinstance(dim, int))
    return dims if len(dims) == len(shape) else (0,)


def _is_vector(node: ir.Node) -> bool:
    scale, axes = scale_of(node), axes_of(node)
    return scale is not None and scale.shape is not None and len(scale.shape) == len(axes) == 1 and scale.shape[0] != 1


def _lower(node: ir.Node, into: NewNodes, opset: int) -> None:
    new: list[ir.Node] = []
    x, residual = node.inputs[0], node.inputs[1] if len(node.outputs) == 2 else None
    assert x is not None
    dtype, shape, scale = x.dtype, node.outputs[0].shape, _vector(node, new, opset)
    attributes = {"epsilon": float_of(node, "epsilon")}
    rank = None if x.shape is None else len(x.shape)
    if residual is not None and rank in (2, 3) and len(axes_of(node)) == 1:
        norm = ir.node(
            _SKIP_NORM, [x, residual, scale], attributes, domain=CONTRIB_DOMAIN, num_outputs=4, name=node.name
        )
        outputs = [norm.outputs[0], norm.outputs[3]]
        norm.outputs[1].name = norm.outputs[2].name = ""
    else:
        outputs = []
        if residual is not None:
            new.append(ir.node("Add", [x, residual], name=f"{node.name}_add"))
            x = new[-1].outputs[0]
            outputs = [x]
        attributes |= {"axis": -len(axes_of(node)), "stash_type": int(ir.DataType.FLOAT)}
        norm = ir.node(_NORM, [x, scale], attributes, name=node.name)
        outputs = [norm.outputs[0], *outputs]
    new.append(norm)
    for value, old in zip(outputs, node.outputs, strict=True):
        value.name, value.type, value.shape = old.name, ir.TensorType(dtype) if dtype else old.type, old.shape or shape
    for made in new:
        made.metadata_props.update(node.metadata_props)
    into.replace(node, new, outputs)


def _vector(node: ir.Node, new: list[ir.Node], opset: int) -> ir.Value:
    """The scale with the dims of the block and the type of X."""
    scale, x = scale_of(node), node.inputs[0]
    assert scale is not None
    assert x is not None
    assert x.dtype is not None
    if scale.dtype != x.dtype:
        new.append(ir.node("Cast", [scale], {"to": x.dtype}))
        scale = new[-1].outputs[0]
    if _is_vector(node):
        return scale
    block, old = block_of(node), scale_of(node)
    shape = None if old is None or old.shape is None else _static(old.shape)
    if shape is not None and math.prod(shape) == 1:  # Expand would keep the ones in front
        flat = integers([1], opset)
        new += [*flat, ir.node("Reshape", [scale, flat[-1].outputs[0]])]
        scale = new[-1].outputs[0]
    elif shape is None or math.prod(shape) in (0, math.prod(block)) or len(shape) > len(block):
        target = integers(block, opset)
        new += [*target, ir.node("Reshape", [scale, target[-1].outputs[0]])]
        return new[-1].outputs[0]
    new += expanded(scale, x.dtype, block, opset)
    return new[-1].outputs[0]
