"""Shape inference by onnx, without changing the model, loading its weights or copying them.

Exporters name a dim anew at every operator. So shapes in the file are not given to onnx where it can infer them: one
dim then has one name from the inputs on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
import onnx_ir as ir
from onnx_ir import serde

from rms_deploy.ops import schemas
from rms_deploy.ops.contract import DOMAIN, VERSION
from rms_deploy.ops.foreign_ops import CONTRIB_DOMAIN, SIMPLIFIED_LAYER_NORMALIZATION, foreign_norm

__all__ = ["Dim", "Known", "Shape", "dims_of", "infer"]

Dim = int | str | None
Shape = tuple[Dim, ...]
Known = tuple[ir.DataType | None, Shape | None]

_LIKE_FIRST = (SIMPLIFIED_LAYER_NORMALIZATION.op_type, "FastGelu", "Gelu", "QuickGelu", "BiasGelu", "RotaryEmbedding")
"""Operators of ONNX Runtime whose first output has the type and shape of their first input."""

_SMALL = 1024
"""Bytes up to which an initialiser is given to onnx with its values: shapes and axes are that small."""


def infer(model: ir.Model) -> dict[tuple[int, str | None], Known]:
    """Element type and shape of the values of all graphs, by (id of the graph, name).

    1. The main graph and the bodies inside it.
    2. Local functions, each after all that call it: what every call passes in the same type and shape is known inside.
    """
    schemas.register()
    known = _inferred(model.graph, _without_weights(model))
    calls = _calls(model)
    waiting = {function.identifier(): function for function in model.functions.values() if function.domain != DOMAIN}
    while waiting:
        called = {key for key, callers in calls.items() if any(graph in waiting for graph, _ in callers)}
        ready = [key for key in waiting if key not in called]
        for key in ready:
            function = waiting.pop(key)
            proto = _body(model, function, [node for _, node in calls.get(key, ())], known)
            known.update(_inferred(function.graph, proto))
        if not ready:  # functions that call each other are no valid model
            break
    return known


def _inferred(graph: ir.Graph, proto: onnx.ModelProto) -> dict[tuple[int, str | None], Known]:
    try:
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return {}  # nothing more is known than what the file says
    return {
        (id(owner), value.name): _known(value.type.tensor_type)
        for owner, inferred in _pairs(graph, proto.graph)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }


_Calls = dict[ir.OperatorIdentifier, list[tuple[ir.OperatorIdentifier | None, ir.Node]]]


def _calls(model: ir.Model) -> _Calls:
    """Where each local function is called: in which function, None for the main graph, and by which node."""
    calls: _Calls = {}
    if model.functions:
        owners = [(None, model.graph), *((f.identifier(), f.graph) for f in model.functions.values())]
        for owner, graph in owners:
            for node in ir.traversal.RecursiveGraphIterator(graph):
                if node.op_identifier() in model.functions:
                    calls.setdefault(node.op_identifier(), []).append((owner, node))
    return calls


def _body(
    model: ir.Model, function: ir.Function, callers: list[ir.Node], known: dict[tuple[int, str | None], Known]
) -> onnx.ModelProto:
    """A function as the main graph of a model, its inputs of the types and shapes that all `callers` pass."""
    proto = onnx.ModelProto(ir_version=model.ir_version)
    for domain, version in {DOMAIN: VERSION, **model.opset_imports, **function.opset_imports}.items():
        proto.opset_import.add(domain=domain, version=version)
    graph = proto.graph
    graph.name = function.name
    for index, value in enumerate(function.inputs):
        dtype, shape = _common([_passed(caller, index, known) for caller in callers])
        if dtype is not None:
            graph.input.append(onnx.helper.make_tensor_value_info(value.name or "", int(dtype), shape))
    for node in function:
        serde.serialize_node_into(graph.node.add(), node)
    return proto


def _passed(caller: ir.Node, index: int, known: dict[tuple[int, str | None], Known]) -> Known:
    value = caller.inputs[index] if index < len(caller.inputs) else None
    if value is None:
        return None, None
    dtype, shape = known.get((id(value.graph), value.name), (None, None))
    tensor = value.const_value
    return (
        (dtype or value.dtype, shape or dims_of(value.shape))
        if tensor is None
        else (tensor.dtype, dims_of(tensor.shape))
    )


def _common(passed: list[Known]) -> Known:
    """The type and the dims that all have in common."""
    dtypes, shapes = {dtype for dtype, _ in passed}, [shape for _, shape in passed]
    dtype = dtypes.pop() if len(dtypes) == 1 else None
    if not shapes or any(shape is None or len(shape) != len(shapes[0] or ()) for shape in shapes):
        return dtype, None
    return dtype, tuple(
        dims[0] if len(set(dims)) == 1 else None for dims in zip(*(s or () for s in shapes), strict=True)
    )


def dims_of(shape: ir.ShapeProtocol | None) -> Shape | None:
    """The dims of an onnx-ir shape."""
    if shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else dim.value for dim in shape.dims)


def _known(tensor: onnx.TypeProto.Tensor) -> Known:
    dtype = ir.DataType(tensor.elem_type) if tensor.elem_type else None
    if not tensor.HasField("shape"):
        return dtype, None
    return dtype, tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim)


def _pairs(graph: ir.Graph, proto: onnx.GraphProto) -> Iterator[tuple[ir.Graph, onnx.GraphProto]]:
    """Each graph with its proto, bodies included."""
    yield graph, proto
    for node, node_proto in zip(graph, proto.node, strict=True):
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
                body = next(a.g for a in node_proto.attribute if a.name == attribute.name)
                yield from _pairs(attribute.as_graph(), body)


def _without_weights(model: ir.Model) -> onnx.ModelProto:
    proto = onnx.ModelProto(ir_version=model.ir_version)
    for domain, version in {DOMAIN: VERSION, **model.opset_imports}.items():
        proto.opset_import.add(domain=domain, version=version)
    for function in model.functions.values():
        serde.serialize_function_into(proto.functions.add(), function, create_value_info=False)
    graph = proto.graph
    graph.name = model.graph.name or "graph"
    _add_values(graph.input, model.graph.inputs)
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.nbytes <= _SMALL:
            serde.serialize_tensor_into(graph.initializer.add(), tensor)
        elif tensor is not None and not value.is_graph_input():
            dims = dims_of(tensor.shape) or ()
            graph.input.append(onnx.helper.make_tensor_value_info(value.name or "", int(tensor.dtype), dims))
    for node in model.graph:
        if not _stand_in(node, graph):
            serde.serialize_node_into(graph.node.add(), node)
        if node.domain not in ("", DOMAIN):  # unknown to onnx: what the file says is all there is
            _add_values(graph.value_info, (v for v in node.outputs if v.name and not v.is_graph_output()))
    for value in model.graph.outputs:
        info = graph.output.add(name=value.name)
        if value.type is not None:
            serde.serialize_type_into(info.type, value.type)
        producer = value.producer()
        if value.shape is not None and producer is not None and producer.domain not in ("", DOMAIN):
            serde.serialize_shape_into(info.type, value.shape)
    return proto


def _stand_in(node: ir.Node, graph: onnx.GraphProto) -> bool:
    """Add an operator that onnx knows, of the same types and shapes, in the place of one of ONNX Runtime's."""
    if not node.inputs or node.inputs[0] is None:
        return False
    norm = foreign_norm(node)
    names, x = [value.name or "" for value in node.outputs], node.inputs[0].name or ""
    if norm is not None and norm.adds_residual:
        outputs = [name if name else f"{names[0]}/sum" for name in (names[0], *names[3:4])]
        if len(outputs) == 1 or len(node.inputs) < 3 or node.inputs[1] is None or node.inputs[2] is None:
            graph.node.add(op_type="Identity", input=[x], output=names[:1])
        else:
            graph.node.add(op_type="AddRMSNorm", domain=DOMAIN, input=[x, x, x], output=outputs)
        return True
    if node.op_type in _LIKE_FIRST and (node.domain == CONTRIB_DOMAIN or norm is not None):
        graph.node.add(op_type="Identity", input=[x], output=names[:1])
        return True
    if node.op_type == "MatMulNBits" and node.domain == CONTRIB_DOMAIN and len(node.inputs) > 2:
        k, n = (node.attributes.get(name) for name in "KN")
        scales = node.inputs[2]
        dtype = scales and (scales.dtype or (scales.const_value and scales.const_value.dtype))
        if k is None or n is None or k.is_ref() or n.is_ref() or not dtype:
            return False
        weight = f"{names[0]}/weight"
        dims = (k.as_int(), n.as_int())
        graph.input.append(onnx.helper.make_tensor_value_info(weight, int(dtype), dims))
        graph.node.add(op_type="MatMul", input=[x, weight], output=names[:1])
        return True
    return False


def _add_values(infos: onnx.GraphProto, values: Iterable[ir.Value]) -> None:
    for value in values:
        if value.type is not None:
            serde.serialize_value_into(infos.add(), value)
