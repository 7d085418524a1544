"""Values that have one element type, by the definition of the operators between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import onnx_ir as ir

__all__ = ["same_type"]

_ONE_TYPE: Final = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "MatMul", "Gemm", "Concat"), None),
    **dict.fromkeys(("Sqrt", "Reciprocal", "Neg", "Abs", "Exp", "Tanh", "Sigmoid", "Identity"), None),
    **dict.fromkeys(("Pow", "ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2", "Reshape", "Transpose"), 1),
    **dict.fromkeys(("Unsqueeze", "Squeeze", "Slice", "Gather", "Expand", "Clip", "Softmax", "LpNormalization"), 1),
    "GlobalAveragePool": 1,
}
"""Operators whose output has the type of their inputs: of all (None), or of so many from the first on."""


def same_type(
    value: ir.Value, dtype_of: Callable[[ir.Value], ir.DataType | None]
) -> tuple[list[ir.Value], ir.DataType | None]:
    """Values of the type of `value`, nearest first, up to one whose type `dtype_of` knows; and that type, or None."""
    waiting, seen = [value], {value}
    nodes: set[ir.Node] = set()
    for relative in waiting:
        producer = relative.producer()
        for node in (*(() if producer is None else (producer,)), *relative.consumers()):
            operands = [] if node in nodes else _operands(node, relative)
            nodes.update([node] if operands else [])
            for other in operands:
                dtype = dtype_of(other)
                if dtype is not None:
                    return waiting, dtype
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)
    return waiting, None


def _operands(node: ir.Node, value: ir.Value) -> list[ir.Value]:
    """All operands of `node` that have the type of `value`, by the definition of the operator."""
    if node.domain != "" or node.op_type not in _ONE_TYPE:
        return []
    operands = [*node.inputs[: _ONE_TYPE[node.op_type]], node.outputs[0]]
    return [other for other in operands if other is not None] if any(value is other for other in operands) else []
