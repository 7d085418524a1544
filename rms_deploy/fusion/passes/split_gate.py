"""A norm with a gate, as a norm and the gate beside it."""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.ops.contract import OPS, RMS_NORM
from rms_deploy.ops.nodes import int_of

__all__ = ["split_gate"]

_FLOAT32 = ir.DataType.FLOAT


def split_gate(node: ir.Node, into: NewNodes) -> ir.Node:
    """Put an RMSNorm, Sigmoid, Mul and the casts into the place of `node`. No number changes.

    1. In front: the norm is float32, of the product. Half types that round before they scale have a norm with a scale
       of one, and a Mul in the half type after it.
    2. Behind: the norm is float32, or rounded before and after its scale; the product is float32.

    Returns:
        The norm.
    """
    x, z, scale = node.inputs
    assert x is not None
    assert z is not None
    assert scale is not None
    assert x.dtype is not None
    dtype, shape = x.dtype, node.outputs[0].shape
    rounds_first = int_of(node, "scale_type") == dtype != _FLOAT32
    is_front = OPS[node.op_type].gates_first
    new: list[ir.Node] = []

    def add(op_type: str, *inputs: ir.Value, to: ir.DataType = _FLOAT32) -> ir.Value:
        new.append(ir.node(op_type, inputs, {"to": to} if op_type == "Cast" else None))
        new[-1].outputs[0].type = ir.TensorType(to)
        new[-1].outputs[0].shape = inputs[0].shape if inputs[0] is scale else shape
        return new[-1].outputs[0]

    def cast(value: ir.Value, to: ir.DataType) -> ir.Value:
        return value if value.dtype == to else add("Cast", value, to=to)

    def norm_of(value: ir.Value, weight: ir.Value) -> ir.Node:
        is_half = value.dtype != _FLOAT32
        attributes = [attribute for name, attribute in node.attributes.items() if name != "scale_type" or is_half]
        norm = ir.Node(
            node.domain, RMS_NORM.name, [value, weight], attributes, name=node.name, doc_string=node.doc_string
        )
        norm.outputs[0].type, norm.outputs[0].shape = value.type, shape
        norm.meta.update(node.meta)
        new.append(norm)
        return norm

    wide = cast(z, _FLOAT32)
    sigma = add("Sigmoid", wide)
    gate = sigma if OPS[node.op_type].gate == "SigmoidGate" else add("Mul", wide, sigma)
    if is_front:  # case 1
        product = add("Mul", cast(x, _FLOAT32), gate)
        norm = norm_of(product, into.unit_scale(node) if rounds_first else cast(scale, _FLOAT32))
        y = cast(norm.outputs[0], dtype)
        y = add("Mul", y, cast(scale, dtype), to=dtype) if rounds_first else y
    else:  # case 2
        norm = norm_of(x, scale) if rounds_first else norm_of(cast(x, _FLOAT32), cast(scale, _FLOAT32))
        y = cast(add("Mul", cast(norm.outputs[0], _FLOAT32), gate), dtype)
    y.name, y.type, y.shape = node.outputs[0].name, node.outputs[0].type, shape
    for made in new:
        made.metadata_props.update(node.metadata_props)
    into.replace(node, new, [y])
    return norm
