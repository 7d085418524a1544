"""A float32 model in a half type, by the converter of ONNX Runtime, which decides where a Cast stands.

The converter gets the graph without its numbers, and what it does not do is done here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir

from rms_deploy.conversion.converter import convert_float_to_float16
from rms_deploy.conversion.prepare import renamed
from rms_deploy.onnx_model.names import Names
from rms_deploy.onnx_model.unread_parts import hand_on_parts
from rms_deploy.ops.narrow import narrowed
from rms_deploy.ops.nodes import all_graphs

__all__ = ["to_half"]

_SMALL: Final = 1024
"""Bytes up to which a tensor that is not float32 goes through the converter."""


def to_half(model: ir.Model, to: ir.DataType, *, kept: Collection[str], keep_io: bool) -> ir.Model:
    """`model` in a half type, but for the nodes in `kept`, which get a Cast in front of and behind them.

    1. Weights are stand-ins without numbers while the converter runs. It clamps numbers and has all of them in memory
       as a proto; here each is rounded once, when it is written. It rounds what a kept node reads, if another node
       reads it too; here each of the two has its own.
    2. It puts every Cast of a body into the main graph, and all of them last. They move to where they belong.
    3. It casts what one kept node gives another to float16 and back. These Casts go.
    4. It knows float16. What it made float16 becomes bfloat16, if `to` is that.
    5. Older versions of it cast a value once for each reader. One Cast serves all.

    Args:
        model: as `prepare` leaves it. It must not be used any more.
        to: FLOAT16 or BFLOAT16.
        kept: names of the nodes that stay in float32.
        keep_io: inputs and outputs stay in float32.
    """
    types = {value.name: value.dtype for graph in all_graphs([model.graph]) for value in _values(graph)}
    nodes = {node.name for graph in all_graphs([model.graph]) for node in graph}
    _split(model, kept)
    weights = _set_aside(model)
    proto = convert_float_to_float16(
        ir.to_proto(model),
        keep_io_types=keep_io,
        disable_shape_infer=True,
        op_block_list=[],
        node_block_list=list(kept),
    )
    _move_casts(proto.graph)
    half: ir.Model = ir.from_proto(proto)
    hand_on_parts(model, half)
    for graph in all_graphs([half.graph]):
        if to != ir.DataType.FLOAT16:
            _retype(graph, to, types)
        _put_back(graph, weights, to)
    _join(half, nodes)
    _share(half, nodes)
    half.graph.sort()
    return half


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from (value for value in graph.initializers.values() if not value.is_graph_input())
    for node in graph:
        yield from node.outputs


def _split(model: ir.Model, kept: Collection[str]) -> None:
    """Case 1: a second initialiser for the kept nodes."""
    names = Names([model.graph])
    for graph in list(all_graphs([model.graph])):
        for value in list(graph.initializers.values()):
            inside = [(node, index) for node, index in value.uses() if node.name in kept]
            if value.dtype != ir.DataType.FLOAT or value.is_graph_input() or len(inside) in (0, len(value.uses())):
                continue
            name, tensor = names.unique(f"{value.name}_float32"), value.const_value
            assert tensor is not None
            second = ir.Value(name=name, type=value.type, shape=value.shape, const_value=renamed(tensor, name))
            graph.register_initializer(second)
            for node, index in inside:
                node.replace_input_with(index, second)


def _set_aside(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """Case 1."""
    weights: dict[str, ir.TensorProtocol] = {}
    for graph in all_graphs([model.graph]):
        for name, value in graph.initializers.items():
            tensor = value.const_value
            if tensor is None or tensor.dtype == ir.DataType.STRING:
                continue
            if tensor.dtype == ir.DataType.FLOAT or isinstance(tensor, ir.ExternalTensor) or tensor.nbytes > _SMALL:
                weights[name] = tensor
                empty = onnx.TensorProto(name=name, data_type=int(tensor.dtype), dims=[0])
                value.const_value = ir.serde.TensorProtoTensor(empty)
            if not value.is_graph_input() and not value.is_graph_output():
                value.type = value.shape = None  # or the converter takes the weight for float16 in any case
    return weights


def _put_back(graph: ir.Graph, weights: Mapping[str, ir.TensorProtocol], to: ir.DataType) -> None:
    """The weights, in float32 or `to` as the converter chose."""
    for name, value in graph.initializers.items():
        tensor = weights.get(name)
        if tensor is None or value.const_value is None:
            continue
        declared = value.dtype if value.is_graph_input() or value.is_graph_output() else None
        dtype = declared or (tensor.dtype if value.const_value.dtype == tensor.dtype else to)
        shape = ir.Shape(tensor.shape.numpy())
        if dtype != tensor.dtype:
            make = partial(_rounded, tensor, dtype)
            tensor = ir.LazyTensor(make, dtype=dtype, shape=shape, name=name)
        value.const_value = tensor
        value.type, value.shape = ir.TensorType(dtype), shape
        for node in value.consumers():
            if node.op_type == "Cast":  # which the converter gave the shape of the stand-in
                node.outputs[0].shape = shape


def _rounded(tensor: ir.TensorProtocol, dtype: ir.DataType) -> ir.TensorProtocol:
    return ir.Tensor(narrowed(tensor.numpy(), np.dtype(dtype.numpy())), dtype=dtype, name=tensor.name)


def _move_casts(main: onnx.GraphProto) -> None:
    """Case 2: the Casts of what a body computes or holds; each name is that of one value."""
    home = {name: graph for graph in _bodies(main) for name in _names(graph)}
    moved: set[str] = set()
    while nodes := [node for node in main.node if node.op_type == "Cast" and node.input[0] in home]:
        for node in nodes:
            body = home[node.output[0]] = home[node.input[0]]
            body.node.add().CopyFrom(node)
            moved.add(node.output[0])
            main.node.remove(node)
    kept = [info for info in main.value_info if info.name not in moved]
    del main.value_info[:]
    main.value_info.extend(kept)


def _bodies(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield body
            yield from _bodies(body)


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (value.name for value in graph.input)
    yield from (tensor.name for tensor in graph.initializer)
    yield from (name for node in graph.node for name in node.output)


def _join(model: ir.Model, before: Collection[str | None]) -> None:
    """Case 3: a new Cast back to float32 behind a new Cast from float32."""
    for graph in list(all_graphs([model.graph])):
        for back in [node for node in graph if node.op_type == "Cast" and node.name not in before]:
            value = back.inputs[0]
            there = None if value is None else value.producer()
            if there is None or there.op_type != "Cast" or there.name in before or there.graph is None:
                continue
            source = there.inputs[0]
            if source is None or source.dtype != back.outputs[0].dtype:
                continue
            if back.outputs[0].is_graph_output():
                back.replace_input_with(0, source)
            else:
                back.outputs[0].replace_all_uses_with(source)
                graph.remove(back, safe=True)
            if not there.outputs[0].uses() and not there.outputs[0].is_graph_output():
                there.graph.remove(there, safe=True)
                source.name = source.name if source.producer() is None else there.outputs[0].name


def _share(model: ir.Model, before: Collection[str | None]) -> None:
    """Case 5."""
    for graph in all_graphs([model.graph]):
        first: dict[tuple[ir.Value, ir.DataType | None], ir.Node] = {}
        for cast in [node for node in graph if node.op_type == "Cast" and node.name not in before]:
            value, to = cast.inputs[0], cast.outputs[0]
            other = cast if value is None else first.setdefault((value, to.dtype), cast)
            if other is not cast and not to.is_graph_output():
                to.replace_all_uses_with(other.outputs[0])
                graph.remove(cast, safe=True)


def _retype(graph: ir.Graph, to: ir.DataType, before: Mapping[str | None, ir.DataType | None]) -> None:
    """Case 4."""
    float16 = ir.DataType.FLOAT16

    def is_new(value: ir.Value) -> bool:
        return value.dtype == float16 and before.get(value.name) != float16

    for value in filter(is_new, _values(graph)):
        value.dtype = to
    for node in graph:
        if not node.outputs or node.outputs[0].dtype != to:
            continue
        for name, attribute in list(node.attributes.items()):
            if name in ("to", "dtype") and attribute.value == float16:
                node.attributes[name] = ir.AttrInt64(name, int(to))
            elif attribute.type == ir.AttributeType.TENSOR and attribute.value.dtype == float16:
                node.attributes[name] = ir.AttrTensor(name, _rounded(attribute.value, to))
