"""A norm of a sum, as an Add and a norm of what it gives."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.norm_parts import NormParts, rounds_first
from rms_deploy.ops.contract import OPS, RMS_NORM

__all__ = ["has_wide_sum", "split_sum", "typed_for_epilogue"]

_FLOAT32 = ir.DataType.FLOAT


def has_wide_sum(node: ir.Node) -> bool:
    """Whether a norm of ours normalises a sum that has another type than X, by the declared types."""
    op = OPS[node.op_type]
    x, residual = node.inputs[:2]
    is_mixed = x is not None and residual is not None and residual.dtype not in (None, x.dtype)
    return op.prologue == "AddFloat32" or (op.is_add and is_mixed)


def split_sum(node: ir.Node, into: NewNodes) -> ir.Node:
    """Put an Add, the op without it, and the casts into the place of `node`. No number changes.

    1. The sum has the type of R, and is cast to that of X, in which the op takes it.
    2. AddFloat32RMSNorm: sum and norm are float32. Half types that round before they scale have a norm with a scale of
       one, and a Mul in the half type after it.

    Returns:
        The norm.
    """
    x, residual, *others = node.inputs
    assert x is not None
    assert x.dtype is not None
    assert residual is not None
    parts, op, sum_type = NormParts(node, into), OPS[node.op_type], residual.dtype or x.dtype
    if op.prologue == "AddFloat32":  # case 2
        wide = parts.add("Add", parts.cast(x, _FLOAT32), parts.cast(residual, _FLOAT32))
        total = parts.cast(wide, sum_type)
        norm, y = parts.scaled(RMS_NORM, wide)
    else:  # case 1
        total = parts.add("Add", parts.cast(x, sum_type), residual, to=sum_type)
        norm = parts.norm(
            OPS[replace(op, prologue="").name],
            parts.cast(total, x.dtype),
            *(value for value in others if value is not None),
        )
        y = norm.outputs[0]
    parts.settle(y, total)
    return norm


def typed_for_epilogue(node: ir.Node, into: NewNodes) -> tuple[ir.Node, ir.DataType, ir.DataType]:
    """The norm, the type of its X, and that in which its epilogue can stand behind it and no number changes.

    1. float32, and half types that round before they scale: the type of X.
    2. Half types that round once: float32. A sum is split off first, as it has to stay in the half type.
    """
    assert node.inputs[0] is not None
    dtype = node.inputs[0].dtype
    assert dtype is not None
    if rounds_first(node) or dtype == _FLOAT32:
        return node, dtype, dtype
    return split_sum(node, into) if OPS[node.op_type].is_add else node, dtype, _FLOAT32
