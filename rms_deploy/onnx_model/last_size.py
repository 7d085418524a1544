"""The size of the last axis of a value whose shape is not known: by how it is made, or by what reads it.

1. A MatMul gives as many columns as its second operand has.
2. A sum or product has the last size of the operand whose last size is not 1.
3. A MatMul by a matrix of k rows fails for a value whose last size is not k.
"""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.foreign_ops import foreign_norm

__all__ = ["last_size"]

_KEEPERS: Final = (
    *("Abs", "Cast", "CastLike", "Dropout", "Exp", "Gelu", "Identity", "LayerNormalization", "Neg", "Relu"),
    *("Sigmoid", "Softmax", "Sqrt", "Tanh"),
)
_BROADCASTING: Final = ("Add", "Div", "Mul", "Sub")
_MAX_DEPTH: Final = 6


def last_size(value: ir.Value | None, facts: Facts, depth: int = _MAX_DEPTH) -> int | None:
    """The number that the last dim of `value` is in every run; None where it cannot be told."""
    if value is None or not depth:
        return None
    shape = facts.shape(value)
    if shape and isinstance(shape[-1], int):
        return shape[-1]
    size = _read(value, facts)
    return _made(value.producer(), facts, depth - 1) if size is None else size


def _made(node: ir.Node | None, facts: Facts, depth: int) -> int | None:
    """Cases 1 and 2."""
    if node is None or not node.inputs:
        return None
    if is_op(node, *_KEEPERS) or node.domain == DOMAIN or foreign_norm(node) is not None:
        return last_size(node.inputs[0], facts, depth)
    if is_op(node, "MatMul"):
        shape = None if node.inputs[1] is None else facts.shape(node.inputs[1])
        return shape[-1] if shape and len(shape) > 1 and isinstance(shape[-1], int) else None
    if is_op(node, *_BROADCASTING):
        sizes = (last_size(operand, facts, depth) for operand in node.inputs)
        return next((size for size in sizes if size is not None and size != 1), None)
    return None


def _read(value: ir.Value, facts: Facts) -> int | None:
    """Case 3, of readers that run whenever the value is made."""
    for reader in value.consumers():
        if is_op(reader, "MatMul") and reader.inputs[0] is value and reader.graph is value.graph and reader.inputs[1]:
            shape = facts.shape(reader.inputs[1])
            if shape and len(shape) > 1 and isinstance(shape[-2], int):
                return shape[-2]
    return None
