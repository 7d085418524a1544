"""A norm that is quantised, as a norm and QuantizeLinear."""

from __future__ import annotations

from typing import Final

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

_FLOAT32: Final = ir.DataType.FLOAT


def split_quantization(node: ir.Node, into: NewNodes, opset: int) -> ir.Node:
    """Put the op without quantisation, and QuantizeLinear in float32, into the place of `node`. No number changes.

    Its scale and zero point are constants, as every runtime wants them.

    Returns:
        The norm.

    Raises:
        InputError: ONNX `opset` has no such QuantizeLinear, or an attribute is one of the function around the node.
    """
    op = OPS[node.op_type]
    for name in ("y_scale", "output_dtype"):
        if name in node.attributes and node.attributes[name].is_ref():
            raise InputError(
                f"{op.name}: {name} is an attribute of the function around it, and has no value there; inline the "
                "functions of the model first"
            )
    dtype = quantized_dtype(int_of(node, "output_dtype"))
    require_quantization_opset(op, dtype, opset)
    parts = NormParts(node, into)
    norm = parts.norm(op.without_quantization, *(value for value in node.inputs if value is not None))
    y_scale = parts.constant(np.array(float_of(node, "y_scale"), np.float32))
    zero_point = parts.constant(np.zeros((), dtype))
    wide = parts.cast(norm.outputs[0], _FLOAT32)
    assert zero_point.dtype is not None
    parts.settle(parts.add("QuantizeLinear", wide, y_scale, zero_point, to=zero_point.dtype), *norm.outputs[1:])
    return norm
