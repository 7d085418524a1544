"""Which of our ops a runtime cannot run by their bodies: none is there, or the model has changed around it."""

from __future__ import annotations

from typing import Final

import onnx
import onnx.helper
import onnx_ir as ir

from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.contract import DOMAIN, OPS, VERSION
from rms_deploy.ops.element_types import ELEMENT_NAMES
from rms_deploy.ops.nodes import axes_of, norm_nodes

__all__ = ["body_faults"]

_UNNAMED: Final = "body"
"""A domain without schemas, so that onnx looks at the body."""

_TYPES: Final = ("scale_type", "output_dtype")
"""The attributes of a node that are element types, on which it depends what its body gives."""

_MAX_RANK: Final = 64
"""Axes of a tensor that a model can have here."""


def body_faults(model: ir.Model, facts: Facts) -> dict[ir.Node, str]:
    """The nodes of our ops whose body in `model` is missing or refused by onnx's checker, with what they have instead.

    Other tools drop the functions of a model, or change its types or its opset and leave our bodies as they are.
    """
    found: dict[tuple[object, ...], str] = {}
    faults = {}
    for node in norm_nodes(model):
        if any(attribute.is_ref() for attribute in node.attributes.values()):
            continue  # as the calls of the function around it say
        types = tuple(None if value is None else facts.dtype(value) for value in node.inputs)
        key = (node.op_identifier(), types, tuple(node.attributes), *(_integer(node, name) for name in _TYPES))
        if key not in found:
            found[key] = _fault(node, types, model)
        if found[key]:
            faults[node] = found[key]
    return faults


def _fault(node: ir.Node, types: tuple[ir.DataType | None, ...], model: ir.Model) -> str:
    called = dict.fromkeys((node.op_type, OPS[node.op_type].without_quantization.name))
    bodies = [model.functions[DOMAIN, name, ""] for name in called if (DOMAIN, name, "") in model.functions]
    if len(bodies) < len(called):
        return "no body"
    opset, other = model.opset_imports.get(""), bodies[0].opset_imports.get("")
    if opset is None or opset > onnx.defs.onnx_opset_version():
        return ""  # onnx knows nothing of it
    if _is_valid(node, types, bodies, opset):
        return ""
    if other is not None and opset != other and _is_valid(node, types, bodies, other):
        return f"a body of opset {other} in a model of opset {opset}"
    names = ", ".join(
        dict.fromkeys(ELEMENT_NAMES.get(dtype, dtype.name.lower()) for dtype in types if dtype is not None)
    )
    return f"a body that does not take {names}"


def _integer(node: ir.Node, name: str) -> int | None:
    attribute = node.attributes.get(name)
    return None if attribute is None else attribute.as_int()


def _is_valid(node: ir.Node, types: tuple[ir.DataType | None, ...], bodies: list[ir.Function], opset: int) -> bool:
    """Whether onnx's checker takes a model of `opset` that is this node alone."""
    call = ir.serde.serialize_node(node)
    call.domain = _UNNAMED
    call.input[:] = [f"input_{index}" for index in range(len(types))]
    call.output[:] = [f"output_{index}" for index in range(len(node.outputs))]
    functions = [ir.serde.serialize_function(body) for body in bodies]
    functions[0].domain = _UNNAMED
    op = OPS[node.op_type]
    by_variable = {variable: dtype for (_, variable), dtype in zip(op.inputs, types, strict=True)}
    by_variable["Q"] = ir.DataType(_integer(node, "output_dtype") or 0)
    types = (*types, *(by_variable[variable] for _, variable in op.outputs[: len(node.outputs)]))
    rank = min(max((axis + 1 if axis >= 0 else -axis for axis in axes_of(node)), default=1), _MAX_RANK)
    ends = [
        onnx.helper.make_tensor_value_info(name, int(dtype or ir.DataType.FLOAT), [None] * rank)
        for name, dtype in zip((*call.input, *call.output), types, strict=True)
    ]
    graph = onnx.helper.make_graph([call], "body", ends[: len(call.input)], ends[len(call.input) :])
    imports = [onnx.helper.make_opsetid(d, v) for d, v in (("", opset), (_UNNAMED, 1), (DOMAIN, VERSION))]
    proto = onnx.helper.make_model(graph, functions=functions, opset_imports=imports, ir_version=8)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True
