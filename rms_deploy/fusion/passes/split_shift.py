"""A norm with a shift, as a norm and an Add."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.norm_parts import NormParts
from rms_deploy.fusion.passes.split_sum import typed_for_epilogue
from rms_deploy.ops.contract import OPS
from rms_deploy.ops.nodes import scale_of, shaped_inputs

__all__ = ["split_shift"]

_FLOAT32 = ir.DataType.FLOAT


def split_shift(node: ir.Node, into: NewNodes) -> ir.Node:
    """Put the op without a shift, an Add and the casts into the place of `node`. No number changes.

    1. float32, and half types that round before they scale: the Add and its shift have the type of X.
    2. Half types that round once: the norm and the Add are in float32, and Y is cast back. A sum is split off first.

    Returns:
        The norm.
    """
    node, dtype, inner = typed_for_epilogue(node, into)
    parts, scale, shift = NormParts(node, into), scale_of(node), node.inputs[-1]
    x, *others = (value for value in shaped_inputs(node) if value is not None)
    assert scale is not None
    assert shift is not None
    norm = parts.norm(
        OPS[replace(OPS[node.op_type], epilogue="").name],
        *(parts.cast(x, inner), *others, scale if inner == dtype else parts.cast(scale, _FLOAT32)),
    )
    y = parts.add("Add", norm.outputs[0], parts.cast(shift, inner), to=inner)
    parts.settle(parts.cast(y, dtype), *norm.outputs[1:])
    return norm
