"""A norm whose scale is wider than its axes, as a norm without a scale and a product."""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.ops.contract import OPS, RMS_NORM
from rms_deploy.ops.nodes import axes_of, int_of, scale_of, shaped_inputs
from rms_deploy.ops.scale_shape import varies_outside

__all__ = ["has_wide_scale", "split_scale"]

_FLOAT32 = ir.DataType.FLOAT


def has_wide_scale(node: ir.Node) -> bool:
    """Whether the scale of a norm of ours varies along another axis than the norm's, by the declared shapes."""
    x, scale = node.inputs[0], scale_of(node)
    if x is None or x.shape is None or scale is None or scale.shape is None:
        return False
    return varies_outside(scale.shape, axes_of(node), len(x.shape))


def split_scale(node: ir.Node, into: NewNodes) -> ir.Node:
    """Put a norm with a scale of one, and a Mul, into the place of `node`. No number changes.

    1. float32, and half types that round before they scale: the Mul and its scale have the type of X.
    2. Half types that round once: X is cast to float32, the norm and the Mul are in float32, and Y is cast back. An Add
       makes the sum of an AddRMSNorm.

    Returns:
        The norm.
    """
    x, scale = node.inputs[0], scale_of(node)
    assert x is not None
    assert x.dtype is not None
    assert scale is not None
    dtype, inner = x.dtype, x.dtype if int_of(node, "scale_type") == x.dtype else _FLOAT32
    y_shape, new = node.outputs[0].shape, list[ir.Node]()
    inputs, op_type, sums = list(shaped_inputs(node)), node.op_type, list[ir.Value]()
    if inner != dtype:  # case 2
        if OPS[op_type].is_add:
            new.append(_typed(ir.node("Add", inputs), dtype, node.outputs[1].shape))
            sums, inputs, op_type = [new[-1].outputs[0]], [new[-1].outputs[0]], RMS_NORM.name
        new.append(_cast(inputs[0], _FLOAT32, y_shape))
        inputs = [new[-1].outputs[0]]
    attributes = [value for name, value in node.attributes.items() if name != "scale_type" or inner == dtype]
    norm = ir.Node(
        node.domain,
        op_type,
        [*inputs, into.unit_scale(node)],
        attributes,
        num_outputs=len(OPS[op_type].outputs),
        name=node.name,
        doc_string=node.doc_string,
    )
    norm.meta.update(node.meta)
    new.append(_typed(norm, inner, y_shape))
    sums += norm.outputs[1:]
    if scale.dtype != inner:
        new.append(_cast(scale, inner, scale.shape))
        scale = new[-1].outputs[0]
    new.append(_typed(ir.node("Mul", [norm.outputs[0], scale]), inner, y_shape))
    if inner != dtype:
        new.append(_cast(new[-1].outputs[0], dtype, y_shape))
    ends = [new[-1].outputs[0], *sums]
    for value, old in zip(ends, node.outputs, strict=True):
        value.name, value.type, value.shape = old.name, old.type, old.shape
    for made in new:
        made.metadata_props.update(node.metadata_props)
    into.replace(node, new, ends)
    return norm


def _cast(value: ir.Value | None, to: ir.DataType, shape: ir.Shape | None) -> ir.Node:
    return _typed(ir.node("Cast", [value], {"to": to}), to, shape)


def _typed(node: ir.Node, dtype: ir.DataType, shape: ir.Shape | None) -> ir.Node:
    for value in node.outputs:
        value.type, value.shape = ir.TensorType(dtype), shape
    return node
