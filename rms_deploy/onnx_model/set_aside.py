"""The weights of a model, taken out of it for a while: what works on the rest neither loads nor copies them."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from rms_deploy.onnx_model.names import Names
from rms_deploy.ops.nodes import all_graphs

__all__ = ["SetAside"]

_SMALL: Final = 1024
"""Bytes up to which an inline initialiser stays: some operators' attributes become such inputs."""


class SetAside:
    """The weights of `model`, which are inputs of its graph until they are put back into a model made of it.

    1. Initialisers of the main graph that are large or lie in another file. One that is an input stays one.
    2. Such initialisers of bodies. They are initialisers of the main graph afterwards, under names of their own.
    3. Tensors of attributes that lie in another file are read, and stay in the model: onnx would look for the file in
       the working directory.
    """

    def __init__(self, model: ir.Model) -> None:
        """Take them out of `model`, which has no functions."""
        self._weights: dict[str, ir.TensorProtocol] = {}
        self._inputs: set[str] = set()
        names = Names([model.graph])
        for graph in all_graphs([model.graph]):
            for value in list(graph.initializers.values()):
                if _is_weight(value.const_value):
                    self._take(value, graph, model.graph, names)
            for node in graph:
                _read_attributes(node)

    def _take(self, value: ir.Value, graph: ir.Graph, main: ir.Graph, names: Names) -> None:
        tensor = value.const_value
        assert tensor is not None
        assert value.name is not None
        is_input = value.is_graph_input()
        graph.initializers.pop(value.name)
        value.const_value = None
        if graph is not main:
            if is_input:  # of a body: its caller gives it
                return
            value.name = names.unique(value.name)
        value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
        self._weights[value.name] = tensor
        if is_input:
            self._inputs.add(value.name)
        else:
            main.inputs.append(value)

    def put_back(self, model: ir.Model) -> None:
        """Make them initialisers of the main graph of `model`, which has the inputs of the first."""
        graph = model.graph
        taken = [value for value in graph.inputs if value.name in self._weights]
        kept = [v for v in graph.inputs if v.name not in self._weights or v.name in self._inputs]
        graph.inputs.clear()
        graph.inputs.extend(kept)
        for value in taken:
            assert value.name is not None
            value.const_value = self._weights[value.name]
            graph.register_initializer(value)


def _is_weight(tensor: ir.TensorProtocol | None) -> bool:
    if tensor is None:
        return False
    return isinstance(tensor, ir.ExternalTensor) or (tensor.dtype != ir.DataType.STRING and tensor.nbytes > _SMALL)


def _read_attributes(node: ir.Node) -> None:
    """Case 3."""
    for name, attribute in list(node.attributes.items()):
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.TENSOR and isinstance(attribute.value, ir.ExternalTensor):
            node.attributes[name] = ir.AttrTensor(name, _inline(attribute.as_tensor()))
        elif attribute.type == ir.AttributeType.TENSORS:
            node.attributes[name] = ir.AttrTensors(name, [_inline(tensor) for tensor in attribute.as_tensors()])


def _inline(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    if not isinstance(tensor, ir.ExternalTensor):
        return tensor
    return ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, name=tensor.name, doc_string=tensor.doc_string)
