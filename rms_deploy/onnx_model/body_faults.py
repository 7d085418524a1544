"""Which of our ops a runtime cannot run by their bodies: none is there, or the model has changed around it."""

from __future__ import annotations

from typing import Final

import onnx
import onnx.helper
import onnx_ir as ir

from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.element_types import ELEMENT_NAMES
from rms_deploy.ops.nodes import axes_of, norm_nodes

__all__ = ["body_faults"]

_UNNAMED: Final = "body"
"""A domain without schemas, so that onnx looks at the body."""

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
        key = (node.op_identifier(), types, tuple(node.attributes), _scale_type(node))
        if key not in found:
            found[key] = _fault(node, types, model)
        if found[key]:
            faults[node] = found[key]
    return faults


def _fault(node: ir.Node, types: tuple[ir.DataType | None, ...], model: ir.Model) -> str:
    body = model.functions.get(node.op_identifier())
    if body is None:
        return "no body"
    opset, other = model.opset_imports.get(""), body.opset_imports.get("")
    if opset is None or opset > onnx.defs.onnx_opset_version():
        return ""  # onnx knows nothing of it
    if _is_valid(node, types, body, opset):
        return ""
    if other is not None and opset != other and _is_valid(node, types, body, other):
        return f"a body of opset {other} in a model of opset {opset}"
    names = ", ".join(
        dict.fromkeys(ELEMENT_NAMES.get(dtype, dtype.name.lower()) for dtype in types if dtype is not None)
    )
    return f"a body that does not take {names}"


def _scale_type(node: ir.Node) -> object:
    attribute = node.attributes.get("scale_type")
    return None if attribute is None or attribute.is_ref() else attribute.value


def _is_valid(node: ir.Node, types: tuple[ir.DataType | None, ...], body: ir.Function, opset: int) -> bool:
    """Whether onnx's checker takes a model of `opset` that is this node alone."""
    call = ir.serde.serialize_node(node)
    call.domain = _UNNAMED
    call.input[:] = [f"input_{index}" for index in range(len(types))]
    call.output[:] = [f"output_{index}" for index in range(len(node.outputs))]
    function = ir.serde.serialize_function(body)
    function.domain = _UNNAMED
    rank = min(max((axis + 1 if axis >= 0 else -axis for axis in axes_of(node)), default=1), _MAX_RANK)
    ends = [
        onnx.helper.make_tensor_value_info(name, int(dtype or ir.DataType.FLOAT), [None] * rank)
        for name, dtype in zip((*call.input, *call.output), (*types, *types[:1] * len(call.output)), strict=True)
    ]
    graph = onnx.helper.make_graph([call], "body", ends[: len(types)], ends[len(types) :])
    imports = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid(_UNNAMED, 1)]
    proto = onnx.helper.make_model(graph, functions=[function], opset_imports=imports, ir_version=8)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True
