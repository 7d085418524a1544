"""Our ops as ONNX's own RMSNormalization, where it can express them."""

from __future__ import annotations

import logging
from typing import Final

import numpy as np
import onnx_ir as ir

from rms_deploy.errors import InputError
from rms_deploy.fusion.passes.bare_norm import bare_norm
from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.rewriting import drop_unread_initializer
from rms_deploy.fusion.passes.split_scale import has_wide_scale, split_scale
from rms_deploy.fusion.passes.trailing_axes import why_not_trailing
from rms_deploy.onnx_model.analysis import is_op
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.foreign_ops import RMS_NORMALIZATION
from rms_deploy.ops.nodes import axes_of, float_of, int_of, norm_nodes, scale_of

__all__ = ["STANDARD_OPSET", "LowerToStandard"]

STANDARD_OPSET: Final = 23
"""The ONNX opset that RMSNormalization came with."""

_FLOAT32 = ir.DataType.FLOAT
_NORM: Final = RMS_NORMALIZATION.op_type

_log = logging.getLogger(__name__)


class LowerToStandard(ir.passes.InPlacePass):
    """Replace our nodes by RMSNormalization, which takes float32 statistics, rounds to the type of X, then scales.

    1. float32, and half types that round before they scale: RMSNormalization, with the scale in the type of X.
    2. Half types that round once: Cast to float32, RMSNormalization in float32, Cast back.
    3. AddRMSNorm: Add, then 1 or 2 on the sum.
    4. A constant scale of one element is written out over the axes: ONNX allows a scalar, onnxruntime before 1.24
       refuses it when it runs.
    5. A scale that is wider than the axes, which ONNX does not allow, is a Mul after a norm with a scale of one.
    6. A sum in another type than X, a gate, a shift, and quantisation are split off first.
    7. What it cannot express stays our node, and is named in a warning: the partial op, a rounded reciprocal,
       `rms_epsilon` or `rms_min` other than 0, axes that do not end with the last, an unknown type.

    Raises:
        InputError: the model's opset is below 23.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Lower in place."""
        opset = model.opset_imports.get("", 0)
        if opset < STANDARD_OPSET:
            raise InputError(f"RMSNormalization needs opset >= {STANDARD_OPSET}, the model has {opset}")
        modified, into = False, NewNodes(model)
        for node in list(norm_nodes(model)):
            reason = why_not_trailing(node, _NORM)
            if reason is None:
                node = bare_norm(node, into, opset)
                _lower(split_scale(node, into) if has_wide_scale(node) else node, into)
                modified = True
            else:
                _log.warning(
                    "%s (%s): stays a %s node: %s", node.name or node.outputs[0].name, node.op_type, DOMAIN, reason
                )
        if modified and not any(norm_nodes(model)):
            model.opset_imports.pop(DOMAIN, None)
        return ir.passes.PassResult(model, modified)


def _lower(node: ir.Node, into: NewNodes) -> None:
    """Put the nodes of cases 1 to 3 into the place of `node`; names of its outputs stay."""
    new: list[ir.Node] = []
    x = node.inputs[0]
    assert x is not None
    dtype = x.dtype
    assert dtype is not None
    if len(node.outputs) == 2:
        new.append(ir.node("Add", [x, node.inputs[1]], name=f"{node.name}_add"))
        x = new[-1].outputs[0]
        _like(x, node.outputs[1])
    round_before_scale = dtype == _FLOAT32 or int_of(node, "scale_type") == dtype
    inner = dtype if round_before_scale else _FLOAT32
    shape = node.outputs[0].shape
    x_inner = _cast(x, dtype, inner, new, f"{node.name}_x")
    old_scale = scale_of(node)
    assert old_scale is not None
    scale = _written_out(old_scale, inner, node, new)
    if scale is None:
        scale = _cast(old_scale, old_scale.dtype, inner, new, f"{node.name}_scale")
    attributes = {"axis": _first_axis(node), "epsilon": float_of(node, "epsilon"), "stash_type": int(_FLOAT32)}
    norm = ir.node(_NORM, [x_inner, scale], attributes, name=node.name)
    norm.outputs[0].dtype, norm.outputs[0].shape = inner, shape
    new.append(norm)
    y = _cast(norm.outputs[0], inner, dtype, new, f"{node.name}_y")
    _like(y, node.outputs[0])
    for made in new:
        made.metadata_props.update(node.metadata_props)
    into.replace(node, new, [y] if len(node.outputs) == 1 else [y, x])
    drop_unread_initializer(old_scale)


def _written_out(scale: ir.Value, dtype: ir.DataType, node: ir.Node, new: list[ir.Node]) -> ir.Value | None:
    """Case 4; None: scale is no constant, has one value per element already, or their number is not known."""
    shape = node.outputs[0].shape
    block = () if shape is None else shape[_first_axis(node) :]
    dims = tuple(dim for dim in block if isinstance(dim, int))
    constant = None if scale.is_graph_input() else _tensor_of(scale)
    if constant is None or constant.size != 1 or not dims or len(dims) != len(block):
        return None
    values = np.full(dims, constant.numpy().astype(dtype.numpy()).item(), dtype.numpy())
    new.append(ir.node("Constant", [], {"value": ir.tensor(values)}, name=f"{node.name}_scale"))
    new[-1].outputs[0].dtype, new[-1].outputs[0].shape = dtype, ir.Shape(dims)
    return new[-1].outputs[0]


def _tensor_of(value: ir.Value) -> ir.TensorProtocol | None:
    """That of an initialiser or a Constant node; onnx-ir's `get_const_tensor` renames what it returns."""
    node = value.producer()
    if node is None:
        return value.const_value
    attribute = next(iter(node.attributes.values()), None)
    if not is_op(node, "Constant") or attribute is None or attribute.is_ref():
        return None
    if attribute.type == ir.AttributeType.TENSOR:
        return attribute.as_tensor()
    return ir.tensor(np.float32(attribute.as_float())) if attribute.name == "value_float" else None


def _cast(value: ir.Value, dtype: ir.DataType | None, to: ir.DataType, new: list[ir.Node], name: str) -> ir.Value:
    if dtype == to:
        return value
    cast = ir.node("Cast", [value], {"to": to}, name=name)
    cast.outputs[0].dtype, cast.outputs[0].shape = to, value.shape
    new.append(cast)
    return cast.outputs[0]


def _like(value: ir.Value, old: ir.Value) -> None:
    value.name, value.type, value.shape = old.name, old.type, old.shape


def _first_axis(node: ir.Node) -> int:
    """The axis from which on RMSNormalization normalises, counted from the end."""
    return -len(axes_of(node))
