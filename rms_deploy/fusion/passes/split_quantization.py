"""A norm that is quantised, as a norm and QuantizeLinear."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rms_deploy.errors import InputError
from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.norm_parts import NormParts
from rms_deploy.ops.contract import OPS
from rms_deploy.ops.element_types import quantized_dtype
from rms_deploy.ops.nodes import float_of, int_of
from rms_deploy.ops.quantization import require_quantization_opset

__all__ = ["split_quantization"]


def split_quantization(node: ir.Node, into: NewNodes, opset: int) -> ir.Node:
    """Put the op without quantisation, and QuantizeLinear, into the place of `node`. No number changes.

    It divides in the type that `precision` names. Its scale and zero point are constants, as every runtime wants them.

    Returns:
        The norm.

    Raises:
        InputError: ONNX `opset` has no such QuantizeLinear, or an attribute is one of the function around the node.
    """
    op = OPS[node.op_type]
    for name in ("y_scale", "output_dtype", "precision"):
        if name in node.attributes and node.attributes[name].is_ref():
            raise InputError(
                f"{op.name}: {name} is an attribute of the function around it, and has no value there; inline the "
                "functions of the model first"
            )
    dtype = quantized_dtype(int_of(node, "output_dtype"))
    precision = ir.DataType(int_of(node, "precision"))
    require_quantization_opset(op, dtype, opset, precision=precision)
    parts = NormParts(node, into)
    norm = parts.norm(op.without_quantization, *(value for value in node.inputs if value is not None))
    y_scale = parts.constant(np.asarray(float_of(node, "y_scale"), precision.numpy()))
    zero_point = parts.constant(np.zeros((), dtype))
    divided = parts.cast(norm.outputs[0], precision)
    assert zero_point.dtype is not None
    parts.settle(parts.add("QuantizeLinear", divided, y_scale, zero_point, to=zero_point.dtype), *norm.outputs[1:])
    return norm
