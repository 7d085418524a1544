"""A norm with a gate, as a norm and the gate beside it."""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.norm_parts import NormParts, rounds_first
from rms_deploy.ops.contract import OPS, RMS_NORM

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
    parts, op = NormParts(node, into), OPS[node.op_type]
    wide = parts.cast(z, _FLOAT32)
    sigma = parts.add("Sigmoid", wide)
    gate = sigma if op.gate == "SigmoidGate" else parts.add("Mul", wide, sigma)
    if op.gates_first:  # case 1
        norm, y = parts.scaled(RMS_NORM, parts.add("Mul", parts.cast(x, _FLOAT32), gate))
    else:  # case 2
        inner = (x, scale) if rounds_first(node) else (parts.cast(x, _FLOAT32), parts.cast(scale, _FLOAT32))
        norm = parts.norm(RMS_NORM, *inner)
        y = parts.cast(parts.add("Mul", parts.cast(norm.outputs[0], _FLOAT32), gate), x.dtype)
    parts.settle(y)
    return norm
