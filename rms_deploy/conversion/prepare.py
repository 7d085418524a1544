"""A model as the converter to half precision needs it."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from rms_deploy.errors import InputError
from rms_deploy.fusion.passes.rewriting import annotate, drop_unread_initializer
from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.fold_constants import FoldConstants
from rms_deploy.onnx_model.inline_functions import inline_functions
from rms_deploy.onnx_model.names import Names
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.nodes import all_graphs, label

__all__ = ["prepare", "renamed"]

_FLOATS: Final = ("value_float", "value_floats")

_CONVERTERS: Final = ("graph_input_cast", "graph_output_cast")
"""How the names of nodes and values begin that the converter writes; a model that was cast before has them."""


def prepare(model: ir.Model) -> None:
    """Change `model` in place; it computes what it did.

    1. Local functions are inlined, but for the bodies of our ops: the converter does not look into them.
    2. What is computed from constants alone is one, so that it is rounded once.
    3. Float32 Constants become initialisers: the converter misses those that are no tensors.
    4. Every node and value has a name that no other has, in any body: nodes are kept by their names, and values cast.
    5. Every value has its element type written down.

    Raises:
        InputError: an element type cannot be told, or a function cannot be inlined.
    """
    inline_functions(model, lambda function: function.domain != DOMAIN)  # case 1
    for key in [key for key in model.functions if key[0] != DOMAIN]:
        del model.functions[key]
    FoldConstants()(model)  # case 2
    for graph in all_graphs([model.graph]):
        for value in list(graph.initializers.values()):
            drop_unread_initializer(value)
        for node in [node for node in graph if is_op(node, "Constant")]:
            _lift(node, graph)
    _name(model)
    facts = Facts(model)
    for graph in all_graphs([model.graph]):
        for value in (*graph.inputs, *(value for node in graph for value in node.outputs)):
            annotate(value, facts)
            if value.type is None and value.uses():
                maker = value.producer()
                of = "" if maker is None else f" of node {label(maker)} ({maker.op_type})"
                raise InputError(
                    f"value {value.name}{of}: its element type cannot be told; write it into the file's value_info"
                )


def _lift(node: ir.Node, graph: ir.Graph) -> None:
    """Case 3."""
    tensor = _float32(node)
    if tensor is None:
        return
    old = node.outputs[0]
    if old.is_graph_output():
        node.attributes.clear()
        node.attributes["value"] = ir.AttrTensor("value", tensor)
        return
    new = ir.Value(name=old.name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(tensor.shape.numpy()))
    old.replace_all_uses_with(new)
    graph.remove(node, safe=True)
    new.const_value = renamed(tensor, old.name)
    graph.register_initializer(new)


def renamed(tensor: ir.TensorProtocol, name: str | None) -> ir.TensorProtocol:
    """`tensor` under another name. Its own name may be written in a proto that the caller gave."""
    return ir.LazyTensor(lambda: tensor, dtype=tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name)


def _float32(node: ir.Node) -> ir.TensorProtocol | None:
    for name, attribute in node.attributes.items():
        if name in _FLOATS:
            return ir.tensor(np.asarray(attribute.value, np.float32))
        if name == "value" and attribute.as_tensor().dtype == ir.DataType.FLOAT:
            return attribute.as_tensor()
    return None


def _name(model: ir.Model) -> None:
    """Case 4."""
    names = Names([model.graph])
    values: set[str] = set()
    nodes: set[str] = set()
    for graph in all_graphs([model.graph]):
        inner = dict.fromkeys((*graph.inputs, *graph.initializers.values(), *(v for n in graph for v in n.outputs)))
        for value in inner:
            is_its_own = (value.name or "").startswith(_CONVERTERS) and value.producer() is not None
            if value.name in values or (is_its_own and not value.is_graph_output()):
                names.rename(value, f"earlier_{value.name}" if is_its_own else value.name or "value")
            values.add(value.name or "")
        for node in graph:
            is_its_own = (node.name or "").startswith(_CONVERTERS)
            if not node.name or node.name in nodes or is_its_own:
                names.rename(node, f"earlier_{node.name}" if is_its_own else node.name or node.op_type)
            nodes.add(node.name or "")
