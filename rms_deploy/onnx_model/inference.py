"""Shape inference by onnx, without changing the model, loading its weights or copying them.

What it says is proven: it follows from the inputs of the main graph, whose types, ranks and fixed sizes ONNX Runtime
enforces, from initialisers, and, of operators that onnx does not know, from what the file says of their results.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import onnx
import onnx_ir as ir

from rms_deploy.onnx_model.body_protos import WITH_BODIES
from rms_deploy.onnx_model.calls import Calls
from rms_deploy.onnx_model.carried_shapes import infer_with_loops
from rms_deploy.onnx_model.inferable import Dim, GraphForInference, Known, Shape, dims_of
from rms_deploy.onnx_model.reshaped_sizes import settle_reshapes
from rms_deploy.ops import schemas

__all__ = ["Dim", "Known", "Shape", "dims_of", "infer"]

_REDUCING: Final = ("ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare", "RMSNormalization")

_MAX_ROUNDS: Final = 3
"""Inferences after the first, each of which knows more of the results of Reshapes."""

_Inferred = dict[tuple[int, str | None], Known]


def infer(model: ir.Model, *, thorough: bool = False) -> _Inferred:
    """Element type and shape of the values of all graphs, by (id of the graph, name).

    `thorough`: also where the last sizes of what is reduced are numbers, infer again with what follows for Reshapes.

    1. The main graph and the bodies inside it.
    2. Local functions, each after all that call it: what every call passes in the same type and shape is known inside.
    3. The bodies of operators that onnx does not know, such as the searches of ONNX Runtime: as their inputs declare.
    """
    schemas.register()
    calls = Calls(model)
    main = GraphForInference(model, model.graph)
    main.add_declared_inputs()
    if calls.may_be_inlined():
        main.add_functions()
    known = _inferred(main, thorough=thorough)
    for function in calls.in_order():
        body = GraphForInference(model, function.graph)
        for index, value in enumerate(function.inputs):
            dtype, shape = _common([_passed(caller, index, known) for caller in calls.of(function)])
            if dtype is not None:
                body.add_input(value.name, dtype, shape)
        known.update(_inferred(body, thorough=thorough))
    return known


def _inferred(graph: GraphForInference, *, thorough: bool) -> _Inferred:
    """What is known of the values of one graph, and of the bodies inside it."""
    graph.add_content()
    known: _Inferred = {}
    for body in graph.foreign_bodies:
        inside = GraphForInference(graph.model, body)
        inside.add_declared_inputs()
        known.update(_inferred(inside, thorough=thorough))
    try:
        proto = infer_with_loops(graph.proto, data_prop=graph.propagates_data)
        for _ in range(_MAX_ROUNDS if thorough or _leaves_open(proto.graph) else 0):
            if not settle_reshapes(proto.graph, graph.proto.graph):
                break
            proto = infer_with_loops(graph.proto, data_prop=graph.propagates_data)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return known  # nothing more is known than what the file enforces
    for owner, found in _pairs(graph.graph, proto.graph):
        for value in (*found.input, *found.value_info, *found.output):
            known[id(owner), value.name] = graph.known(value.type.tensor_type)
    return known


def _leaves_open(graph: onnx.GraphProto) -> bool:
    """Whether the last size of anything that is reduced is no number, of which the sizes of norms depend."""
    read = {node.input[0] for node in graph.node if node.op_type in _REDUCING and node.input}
    infos = (info.type.tensor_type for info in (*graph.input, *graph.value_info) if info.name in read)
    return any(tensor.shape.dim and not tensor.shape.dim[-1].HasField("dim_value") for tensor in infos)


def _pairs(graph: ir.Graph, proto: onnx.GraphProto) -> Iterator[tuple[ir.Graph, onnx.GraphProto]]:
    """Each graph with its proto, bodies included."""
    yield graph, proto
    nodes = [node for node in graph if node.op_type in WITH_BODIES]
    protos = [node for node in proto.node if node.op_type in WITH_BODIES]
    for node, node_proto in zip(nodes, protos, strict=True):
        names = [attribute.name for attribute in node_proto.attribute]
        for name, attribute in node.attributes.items():
            if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
                yield from _pairs(attribute.as_graph(), node_proto.attribute[names.index(name)].g)


def _passed(caller: ir.Node, index: int, known: _Inferred) -> Known:
    """What is known of an input of a call."""
    value = caller.inputs[index] if index < len(caller.inputs) else None
    if value is None:
        return None, None
    tensor = value.const_value
    if tensor is not None and not value.is_graph_input():
        return tensor.dtype, dims_of(tensor.shape)
    return known.get((id(value.graph), value.name), (None, None))


def _common(passed: list[Known]) -> Known:
    """The type and the dims that all have in common."""
    dtypes, shapes = {dtype for dtype, _ in passed}, [shape for _, shape in passed]
    dtype = dtypes.pop() if len(dtypes) == 1 else None
    if not shapes or any(shape is None or len(shape) != len(shapes[0] or ()) for shape in shapes):
        return dtype, None
    return dtype, tuple(
        dims[0] if len(set(dims)) == 1 else None for dims in zip(*(s or () for s in shapes), strict=True)
    )
