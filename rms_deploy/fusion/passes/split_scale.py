"""A norm whose scale is wider than its axes, as a norm without a scale and a product."""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.norm_parts import NormParts
from rms_deploy.fusion.passes.split_sum import typed_for_epilogue
from rms_deploy.ops.contract import OPS
from rms_deploy.ops.nodes import axes_of, scale_of, shaped_inputs
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
    """Put a norm with a scale of one, and a Mul, into the place of `node`, a bare norm. No number changes.

    1. float32, and half types that round before they scale: the Mul and its scale have the type of X.
    2. Half types that round once: X is cast to float32, the norm and the Mul are in float32, and Y is cast back. A sum
       is split off first.

    Returns:
        The norm.
    """
    node, dtype, inner = typed_for_epilogue(node, into)
    parts, scale = NormParts(node, into), scale_of(node)
    x, *others = (value for value in shaped_inputs(node) if value is not None)
    assert scale is not None
    norm = parts.norm(OPS[node.op_type], parts.cast(x, inner), *others, parts.unit_scale())
    y = parts.add("Mul", norm.outputs[0], parts.cast(scale, inner), to=inner)
    parts.settle(parts.cast(y, dtype), *norm.outputs[1:])
    return norm
