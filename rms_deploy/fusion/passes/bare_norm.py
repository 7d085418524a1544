"""Any norm of ours without what the norms of other domains do not have."""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.split_gate import split_gate
from rms_deploy.fusion.passes.split_quantization import split_quantization
from rms_deploy.fusion.passes.split_shift import split_shift
from rms_deploy.fusion.passes.split_sum import has_wide_sum, split_sum
from rms_deploy.ops.contract import OPS

__all__ = ["bare_norm", "is_bare"]


def is_bare(node: ir.Node) -> bool:
    """Whether a norm of ours is RMSNorm, AddRMSNorm with tensors of one type, or one that no other domain has."""
    return not (OPS[node.op_type].epilogue or OPS[node.op_type].is_gated or has_wide_sum(node))


def bare_norm(node: ir.Node, into: NewNodes, opset: int) -> ir.Node:
    """Put a bare norm, and operators of ONNX `opset` around it, into the place of `node`. No number changes.

    A sum in another type than X, a gate, a shift, and quantisation are split off.

    Returns:
        The norm, which is `node` if that is bare.

    Raises:
        InputError: the opset has no QuantizeLinear for a norm that is quantised.
    """
    if has_wide_sum(node):
        node = split_sum(node, into)
    if OPS[node.op_type].is_gated:
        node = split_gate(node, into)
    if OPS[node.op_type].is_shifted:
        node = split_shift(node, into)
    if OPS[node.op_type].is_quantized:
        node = split_quantization(node, into, opset)
    return node
