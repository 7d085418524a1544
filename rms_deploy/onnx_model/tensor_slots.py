"""Every place in an onnx-ir model that holds a tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import onnx_ir as ir

from rms_deploy.ops.nodes import graphs_of

__all__ = ["tensor_slots"]

_Put = Callable[[ir.TensorProtocol], None]


def tensor_slots(model: ir.Model) -> Iterator[tuple[ir.TensorProtocol, _Put]]:
    """Each tensor of an initialiser or an attribute, functions and bodies included, with what puts another there."""
    for graph in graphs_of(model, ours=True):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value, partial(setattr, value, "const_value")
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.is_ref():
                    continue
                if attribute.type == ir.AttributeType.TENSOR:
                    yield attribute.as_tensor(), partial(_put, node, attribute.name)
                elif attribute.type == ir.AttributeType.TENSORS:
                    for index, tensor in enumerate(attribute.as_tensors()):
                        yield tensor, partial(_put_one, node, attribute.name, index)


def _put(node: ir.Node, name: str, tensor: ir.TensorProtocol) -> None:
    node.attributes[name] = ir.AttrTensor(name, tensor)


def _put_one(node: ir.Node, name: str, index: int, tensor: ir.TensorProtocol) -> None:
    tensors = list(node.attributes[name].as_tensors())
    tensors[index] = tensor
    node.attributes[name] = ir.AttrTensors(name, tensors)
