"""The nodes of a float32 model that have no form in a half type, by the schemas of their operators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import onnx
import onnx_ir as ir

from rms_deploy.conversion.converter import ALWAYS_FLOAT_INPUTS, DEFAULT_OP_BLOCK_LIST, operator_schemas
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.element_types import HALF
from rms_deploy.ops.nodes import all_graphs, bodies_of

__all__ = ["nodes_without_half", "touches_float32"]

_FLOATS: Final = (*HALF, ir.DataType.FLOAT, ir.DataType.DOUBLE)

_STATISTICS: Final = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum",
    "ReduceSumSquare",
)  # fmt: skip
"""Sums that no fused op holds: they overflow in a half type, and lose what is small."""


def nodes_without_half(model: ir.Model, to: ir.DataType) -> dict[ir.Node, str]:
    """The nodes that read or give float32 and stay in it, and why.

    1. A node whose inputs have several float types before.
    2. An operator whose schema has no `to` where the node has float32, in the opset that the model imports, or that
       has no schema here.
    3. The operators that ONNX Runtime's converter keeps, as its kernels for float16 are missing or weak.
    4. Sums that are no part of a fused op.
    """
    kept: dict[ir.Node, str] = {}
    for node in (node for graph in all_graphs([model.graph]) for node in graph):
        if not touches_float32(node):
            continue
        if node.op_type != "Cast" and len({v.dtype for v in node.inputs if v is not None and v.dtype in _FLOATS}) > 1:
            kept[node] = "its inputs have several float types"
            continue
        if node.domain == DOMAIN:
            continue
        reason = _schema_reason(node, model.opset_imports.get(node.domain, 0), to)
        if not reason and node.op_type in DEFAULT_OP_BLOCK_LIST:
            reason = "ONNX Runtime's converter keeps this operator"
        elif not reason and node.domain == "" and node.op_type in _STATISTICS:
            reason = "a sum outside of a fused norm"
        if reason:
            kept[node] = reason
    return kept


def touches_float32(node: ir.Node) -> bool:
    """Whether an input or an output is float32."""
    return any(value is not None and value.dtype == ir.DataType.FLOAT for value in (*node.inputs, *node.outputs))


def _schema_reason(node: ir.Node, opset: int, to: ir.DataType) -> str:
    if any(True for _ in bodies_of(node)):
        return ""  # any type, which the body decides
    rules = _onnx_rules(node.op_type, opset, node.domain) or _onnxruntime_rules().get((node.domain, node.op_type))
    if rules is None:
        return f"nobody knows the types of {node.domain or 'ai.onnx'}.{node.op_type}"
    always_float = ALWAYS_FLOAT_INPUTS.get(node.op_type, ())
    if rules.take(node, to, except_inputs=always_float):
        return ""
    where = f"opset {opset}" if node.domain == "" else node.domain
    return f"{node.op_type} has no {to.name.lower()} in {where}"


@dataclass(frozen=True)
class _Rules:
    """The types that each input and output of an operator may have; the last ones are those of all that follow."""

    inputs: tuple[frozenset[str], ...]
    outputs: tuple[frozenset[str], ...]

    @classmethod
    def of(cls, constraints: Mapping[str, Iterable[str]], inputs: Iterable[str], outputs: Iterable[str]) -> _Rules:
        one, other = (tuple(frozenset(constraints.get(name, (name,))) for name in names) for names in (inputs, outputs))
        return cls(one, other)

    def take(self, node: ir.Node, to: ir.DataType, *, except_inputs: Iterable[int]) -> bool:
        """Whether every float32 value of `node` may be `to`."""
        name = f"tensor({to.name.lower()})"
        for values, allowed, skipped in (
            (node.inputs, self.inputs, set(except_inputs)),
            (node.outputs, self.outputs, set[int]()),
        ):
            for index, value in enumerate(values):
                if value is None or value.dtype != ir.DataType.FLOAT or index in skipped:
                    continue
                if not allowed or name not in allowed[min(index, len(allowed) - 1)]:
                    return False
        return True


@cache
def _onnx_rules(op_type: str, opset: int, domain: str) -> _Rules | None:
    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None
    constraints = {each.type_param_str: each.allowed_type_strs for each in schema.type_constraints}
    return _Rules.of(constraints, (i.type_str for i in schema.inputs), (o.type_str for o in schema.outputs))


@cache
def _onnxruntime_rules() -> dict[tuple[str, str], _Rules]:
    """Of the operators of ONNX Runtime that ONNX does not have."""
    return {
        (schema.domain, schema.name): _Rules.of(
            {each.type_param_str: each.allowed_type_strs for each in schema.type_constraints},
            (i.typeStr for i in schema.inputs),
            (o.typeStr for o in schema.outputs),
        )
        for schema in operator_schemas()
        if schema.domain not in ("", "ai.onnx")
    }
