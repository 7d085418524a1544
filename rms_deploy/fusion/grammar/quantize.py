"""The quantisation of a norm that is one op: QuantizeLinear of its result, with a constant scale and no zero point.

1. Every reader of the result quantises it with one scale and one type: int8 or float8e4m3fn. Shape and Size do not
   count.
2. A zero point is 0 or left out. The scale is one positive number.
3. A half type may be cast to float32 before. The type in which QuantizeLinear divides stays what it is.
4. TensorRT's own TRT_FP8QuantizeLinear, which ModelOpt writes, divides in the type of its scale too.
5. The opset of the model has QuantizeLinear for the body of the op, whichever operator quantised before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from rms_deploy.fusion.grammar.chain import ends_with_last, is_cast, is_copy
from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.constants import scalar, why_not_scalar
from rms_deploy.ops.contract import ADD_RMS_NORM, ADD_RMS_NORM_QUANTIZE, DOMAIN, OPS, RMS_NORM, RMS_NORM_QUANTIZE, Op
from rms_deploy.ops.element_types import HALF, quantized_dtype
from rms_deploy.ops.foreign_ops import CONTRIB_DOMAIN
from rms_deploy.ops.function_body import CONSTANT_OPSET
from rms_deploy.ops.nodes import label
from rms_deploy.ops.quantization import why_not_in_opset

__all__ = ["Quantization", "quantization_of"]

_QUANTIZED: Final[dict[str, Op]] = {RMS_NORM.name: RMS_NORM_QUANTIZE, ADD_RMS_NORM.name: ADD_RMS_NORM_QUANTIZE}

_TRT_DOMAIN: Final = "trt"
_TRT_FP8: Final = "TRT_FP8QuantizeLinear"

_FLOAT32: Final = ir.DataType.FLOAT
_INT8: Final = ir.DataType.INT8
_FLOAT8: Final = ir.DataType.FLOAT8E4M3FN

_MAX_READERS: Final = 64
"""Readers of a norm that are looked at. One gives q, k and v, or gate and up."""


@dataclass(frozen=True)
class _Parameters:
    """How a node quantises."""

    y_scale: float
    output_dtype: ir.DataType
    precision: ir.DataType


@dataclass(frozen=True)
class Quantization:
    """A norm and the nodes that quantise its result alike."""

    op: Op
    norm: ir.Node
    nodes: tuple[ir.Node, ...]
    y_scale: float
    output_dtype: ir.DataType
    precision: ir.DataType


def quantization_of(norm: ir.Node, facts: Facts) -> Quantization | str | None:
    """The quantisation that `norm` can take; why it takes none, of what quantises it; or None."""
    if norm.domain != DOMAIN or norm.op_type not in OPS or None in norm.inputs or norm.graph is None:
        return None
    nodes, others = _readers(norm.outputs[0], facts)
    if not nodes:
        return None
    which, op = f"{label(nodes[0])} stays", _QUANTIZED.get(norm.op_type)
    if op is None:
        return f"{which}: {norm.op_type} has no form that quantises"
    if not ends_with_last(norm, facts):
        return f"{which}: the axes of the norm are not known to end with the last"
    if others or norm.outputs[0].is_graph_output():
        return f"{which}: the norm is read by others too"
    if any(node.graph is not norm.graph for node in nodes):
        return f"{which}: it is in another graph"
    if any(node.outputs[0].is_graph_output() for node in nodes[1:]):
        return f"{which}: the norm is quantised by another output of the graph too"
    found = [_parameters(node, facts) for node in nodes]
    why_not = next((each for each in found if isinstance(each, str)), None)
    if why_not is not None:
        return f"{which}: {why_not}"
    first = found[0]
    if any(each != first for each in found) or not isinstance(first, _Parameters):
        return f"{which}: the norm is quantised in several ways"
    why_not = _why_no_body(first, facts.model.opset_imports.get("", 0))
    if why_not is not None:
        return f"{which}: {why_not}"
    return Quantization(op, norm, tuple(nodes), first.y_scale, first.output_dtype, first.precision)


def _readers(value: ir.Value, facts: Facts) -> tuple[list[ir.Node], bool]:
    """The nodes that quantise `value`, outputs of the graph first, and whether something else reads its numbers."""
    found: dict[ir.Node, None] = {}
    values = [value]
    for each in values:  # grows
        if each is not value and each.is_graph_output():
            return list(found), True
        for node, index in each.uses():
            if _quantizes(node) and index == 0:
                found[node] = None
            elif (is_copy(node, facts) or is_cast(node, facts, _FLOAT32)) and len(values) < _MAX_READERS and index == 0:
                values.append(node.outputs[0])
            elif not is_op(node, "Shape", "Size"):
                return list(found), True
    return sorted(found, key=lambda node: not node.outputs[0].is_graph_output()), False


def _quantizes(node: ir.Node) -> bool:
    if (node.domain, node.op_type) == (_TRT_DOMAIN, _TRT_FP8):
        return len(node.inputs) == 2
    return node.op_type == "QuantizeLinear" and node.domain in ("", CONTRIB_DOMAIN) and len(node.inputs) in (2, 3)


def _parameters(node: ir.Node, facts: Facts) -> _Parameters | str:
    """How `node` quantises, or why the op does not."""
    x, scale, *zero_point = node.inputs
    assert x is not None
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        return "an attribute of it is one of the function around it"
    y_scale = scalar(scale, facts)
    if scale is None or y_scale is None:
        return f"its scale {why_not_scalar(scale, facts)}"
    if not (math.isfinite(y_scale) and y_scale > 0):
        return f"its scale is {y_scale:g}"
    dtype = _output_dtype(node, facts)
    if dtype not in (_INT8, _FLOAT8):
        return f"it gives {'an unknown type' if dtype is None else dtype.name.lower()}, the op int8 or float8e4m3fn"
    zero = None if not zero_point or zero_point[0] is None else zero_point[0]
    if zero is not None and scalar(zero, facts) != 0:
        return f"its zero point is {scalar(zero, facts):g}" if scalar(zero, facts) else "its zero point is not constant"
    if _integer(node, "saturate", 1) != 1:
        return "it does not saturate"
    of_x, of_scale = facts.dtype(x), facts.dtype(scale)
    named = _integer(node, "precision", 0)
    precision = ir.DataType(named) if named else of_scale
    if precision is None or (precision != _FLOAT32 and not (precision == of_x and of_x in HALF)):
        return "the type in which it divides is neither float32 nor that of the norm"
    return _Parameters(y_scale, dtype, precision)


def _why_no_body(parameters: _Parameters, opset: int) -> str | None:
    """Why ONNX `opset` has no body for an op that quantises so; None: it has."""
    if opset < CONSTANT_OPSET:
        return f"below opset {CONSTANT_OPSET} all norms share one body, and with it y_scale; use a newer opset"
    return why_not_in_opset(quantized_dtype(parameters.output_dtype), opset, precision=parameters.precision)


def _output_dtype(node: ir.Node, facts: Facts) -> ir.DataType | None:
    if node.domain == _TRT_DOMAIN:
        return _FLOAT8
    if len(node.inputs) == 3 and node.inputs[2] is not None:
        return facts.dtype(node.inputs[2])
    return ir.DataType(_integer(node, "output_dtype", 0) or ir.DataType.UINT8)


def _integer(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()
