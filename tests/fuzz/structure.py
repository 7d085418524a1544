"""Damage to the structure of a model: messages that parse, and say what no model may say."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper

from .graphs import DATA_FILE

__all__ = ["break_names", "mutate_structure"]

_Rng = np.random.Generator
_WHERE = (
    "/etc/passwd",
    "../secret.bin",
    "../secret.bin",
    "link.bin",
    "missing.bin",
    "",
    ".",
    "a\0b",
    "x" * 300,
    "link.bin/..",
    DATA_FILE,
)
_NUMBERS = (-1, 0, 1, 2, 63, 2**31 - 1, 2**31, -(2**31), 2**62, -(2**63), 2**63 - 1)
_OPERATORS = (
    "", "RMSNorm", "AddRMSNorm", "PartialRMSNorm", "RMSNormalization", "Constant", "If", "Reshape",
    "SkipSimplifiedLayerNormalization", "SimplifiedLayerNormalization",
)  # fmt: skip


def mutate_structure(model: onnx.ModelProto, rng: _Rng) -> list[str]:
    """One to three random changes in place; their names."""
    names = []
    for _ in range(1 + min(int(rng.geometric(0.6)) - 1, 2)):
        change = _CHANGES[int(rng.integers(len(_CHANGES)))]
        change(model, rng)
        names.append(change.__name__.strip("_"))
    return names


def break_names(data: bytes, model: onnx.ModelProto, rng: _Rng) -> bytes:
    """A name that is not UTF-8, which no message can be given but every file can hold."""
    names = [name for node in _nodes(model) for name in (*node.input, *node.output, node.op_type, node.name) if name]
    if not names:
        return data
    name = names[int(rng.integers(len(names)))].encode()
    broken = b"\xff" + name[1:]
    return data.replace(name, broken, *([] if rng.random() < 0.5 else [1]))


def _pick(items: object, rng: _Rng) -> object:
    items = list(items)  # type: ignore[call-overload]
    return items[int(rng.integers(len(items)))] if items else None


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting += [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]


def _nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [
        *(node for graph in _graphs(model) for node in graph.node),
        *(node for function in model.functions for node in function.node),
    ]


def _tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    constants = [a.t for node in _nodes(model) for a in node.attribute if a.HasField("t")]
    return [*(tensor for graph in _graphs(model) for tensor in graph.initializer), *constants]


def _drop_input(model: onnx.ModelProto, rng: _Rng) -> None:
    if node := _pick(_nodes(model), rng):
        field = _pick((node.input, node.output), rng)
        if len(field):
            del field[int(rng.integers(len(field)))]


def _empty_or_copy_name(model: onnx.ModelProto, rng: _Rng) -> None:
    nodes = _nodes(model)
    if node := _pick(nodes, rng):
        field = _pick((node.input, node.output), rng)
        donor = _pick(nodes, rng)
        names = ["", "nowhere", *donor.input, *donor.output]
        if len(field):
            field[int(rng.integers(len(field)))] = _pick(names, rng)


def _more_inputs(model: onnx.ModelProto, rng: _Rng) -> None:
    if node := _pick(_nodes(model), rng):
        field = _pick((node.input, node.output), rng)
        field.extend([_pick([*node.input, *node.output, "extra"], rng)] * int(_pick((1, 2, 40), rng)))


def _node(model: onnx.ModelProto, rng: _Rng) -> None:
    """Dropped, doubled, moved or cleared."""
    graph = _pick((*_graphs(model), *model.functions), rng)
    if not len(graph.node):
        return
    at = int(rng.integers(len(graph.node)))
    node = onnx.NodeProto()
    node.CopyFrom(graph.node[at])
    way = _pick(("drop", "double", "move", "clear"), rng)
    if way in ("drop", "move"):
        del graph.node[at]
    if way in ("double", "move"):
        graph.node.insert(int(rng.integers(len(graph.node) + 1)), node)
    if way == "clear":
        graph.node[at].Clear()


def _operator(model: onnx.ModelProto, rng: _Rng) -> None:
    nodes = _nodes(model)
    if node := _pick(nodes, rng):
        node.op_type = _pick([*_OPERATORS, *(other.op_type for other in nodes)], rng)
        if rng.random() < 0.5:
            node.domain = _pick(("", "ai.onnx", "rms_deploy", "com.microsoft", "trt.plugins", "local", "?"), rng)


def _attribute(model: onnx.ModelProto, rng: _Rng) -> None:
    """Dropped, doubled, or of another type or value."""
    with_some = [node for node in _nodes(model) if node.attribute]
    if not with_some:
        return
    node = _pick(with_some, rng)
    attribute = _pick(node.attribute, rng)
    way = _pick(("drop", "double", "retype", "value", "type", "reference"), rng)
    if way == "drop":
        node.attribute.remove(attribute)
    elif way == "double":
        node.attribute.append(attribute)
    elif way == "type":
        attribute.type = int(rng.integers(0, 15))
    elif way == "reference":
        attribute.ref_attr_name = _pick(("alpha", attribute.name), rng)
    elif way == "value" and attribute.type == AttributeProto.INT:
        attribute.i = _pick(_NUMBERS, rng)
    elif way == "value" and attribute.type == AttributeProto.INTS:
        attribute.ints.extend([_pick(_NUMBERS, rng)] * int(_pick((1, 3), rng)))
    else:
        value = _pick(
            (1.5, "text", 3, [1, 2], [1.0], ["a"], [-1], float("nan"), helper.make_tensor("t", 1, [1], [2.0])), rng
        )
        name = attribute.name
        attribute.Clear()
        attribute.CopyFrom(helper.make_attribute(name, value))


def _new_attribute(model: onnx.ModelProto, rng: _Rng) -> None:
    if node := _pick(_nodes(model), rng):
        name = _pick(("axis", "axes", "epsilon", "scale_type", "keepdims", "value", "to", "partial_size"), rng)
        value = _pick((*_NUMBERS, [0], [-1], [5, -9], 0.5, "text"), rng)
        node.attribute.append(helper.make_attribute(name, value))


def _element_type(model: onnx.ModelProto, rng: _Rng) -> None:
    tensors = _tensors(model)
    values = [value.type.tensor_type for graph in _graphs(model) for value in (*graph.input, *graph.output)]
    if tensors and rng.random() < 0.6:
        _pick(tensors, rng).data_type = int(_pick((0, 1, 6, 7, 8, 9, 10, 11, 14, 16, 17, 21, 22, 99, -1), rng))
    elif values:
        _pick(values, rng).elem_type = int(_pick((0, 1, 7, 8, 10, 11, 16, 99, -1), rng))


def _sizes(model: onnx.ModelProto, rng: _Rng) -> None:
    tensors = _tensors(model)
    if tensors and rng.random() < 0.6:
        dims = _pick(tensors, rng).dims
        if len(dims) and rng.random() < 0.7:
            dims[int(rng.integers(len(dims)))] = _pick(_NUMBERS, rng)
        else:
            dims.extend([_pick(_NUMBERS, rng)] * int(_pick((1, 2, 3000), rng)))
        return
    value = _pick((*model.graph.input, *model.graph.output, *model.graph.value_info), rng)
    dims = value.type.tensor_type.shape.dim
    if len(dims) and rng.random() < 0.7:
        dim = _pick(dims, rng)
        dim.dim_value = _pick(_NUMBERS, rng)
    else:
        dims.add(dim_value=_pick(_NUMBERS, rng))


def _raw_data(model: onnx.ModelProto, rng: _Rng) -> None:
    """Of the wrong length, missing, or given twice."""
    if tensor := _pick(_tensors(model), rng):
        way = _pick(("short", "long", "none", "twice", "external"), rng)
        if way == "short":
            tensor.raw_data = tensor.raw_data[:-1]
        elif way == "long":
            tensor.raw_data += b"\x01\x02\x03"
        elif way == "none":
            tensor.ClearField("raw_data")
        elif way == "twice":
            tensor.float_data.extend([1.0, 2.0])
        else:
            tensor.data_location = TensorProto.EXTERNAL


def _external(model: onnx.ModelProto, rng: _Rng) -> None:
    """A tensor, wherever it is, taken from a place that it must not come from."""
    hidden = [a.t for function in model.functions for node in function.node for a in node.attribute if a.HasField("t")]
    if tensor := _pick(hidden if hidden and rng.random() < 0.5 else _tensors(model), rng):
        length = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=_pick(_WHERE, rng))
        for key, values in (("offset", (0, 4, -1, 2**62, "x")), ("length", (length, 0, -1, 2**62, length + 1, "x"))):
            if rng.random() < 0.6:
                tensor.external_data.add(key=key, value=str(_pick(values, rng)))


def _tensor_lists(model: onnx.ModelProto, rng: _Rng) -> None:
    """An external tensor in an attribute of tensors, or in a sparse one, where few look."""
    outside = TensorProto(name="o", data_type=1, dims=[8], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value=_pick(_WHERE, rng))
    indices = helper.make_tensor("i", TensorProto.INT64, [8], range(8))
    if rng.random() < 0.5:
        sparse = onnx.SparseTensorProto(values=outside, indices=indices, dims=[8])
        model.graph.sparse_initializer.append(sparse)
    elif node := _pick(_nodes(model), rng):
        node.attribute.append(AttributeProto(name="extra", type=AttributeProto.TENSORS, tensors=[outside]))


def _opset(model: onnx.ModelProto, rng: _Rng) -> None:
    owner = _pick((model, model, *model.functions), rng)
    way = _pick(("version", "drop", "double", "domain"), rng)
    if not len(owner.opset_import):
        return
    chosen = _pick(owner.opset_import, rng)
    if way == "version":
        chosen.version = _pick((0, -1, 1, 5, 6, 13, 25, 26, 99, 10**9, 2**62), rng)
    elif way == "drop":
        owner.opset_import.remove(chosen)
    elif way == "double":
        owner.opset_import.add(domain=chosen.domain, version=_pick((chosen.version, 13), rng))
    else:
        chosen.domain = _pick(("", "ai.onnx", "rms_deploy", "new"), rng)


def _ir_version(model: onnx.ModelProto, rng: _Rng) -> None:
    model.ir_version = _pick((0, -1, 1, 2, 3, 4, 10, 14, 15, 99, 2**62), rng)


def _cycle(model: onnx.ModelProto, rng: _Rng) -> None:
    """A node reads what depends on it."""
    graph = _pick(_graphs(model), rng)
    if len(graph.node) > 1:
        first, last = sorted(int(at) for at in rng.integers(len(graph.node), size=2))
        if len(graph.node[first].input) and len(graph.node[last].output):
            graph.node[first].input[0] = graph.node[last].output[0]


def _recursion(model: onnx.ModelProto, rng: _Rng) -> None:
    """A function that calls itself, or functions that each call the one before twice."""
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("deep", 1)]
    depth = int(_pick((1, 3, 25), rng))
    for level in range(depth):
        inner = f"f{level - 1}" if level else ("f0" if depth == 1 else "Neg")
        domain = "" if inner == "Neg" else "deep"
        calls = [helper.make_node(inner, [a], [b], domain=domain) for a, b in (("x", "m"), ("m", "y"))]
        model.functions.append(helper.make_function("deep", f"f{level}", ["x"], ["y"], calls, imports))
    model.opset_import.add(domain="deep", version=1)
    graph = model.graph
    if len(graph.input):
        graph.node.append(helper.make_node(f"f{depth - 1}", [graph.input[0].name], ["deep_y"], domain="deep"))


def _signature(model: onnx.ModelProto, rng: _Rng) -> None:
    """Inputs, outputs and initialisers dropped, doubled or renamed."""
    graph = _pick(_graphs(model), rng)
    field = _pick((graph.input, graph.output, graph.initializer, graph.value_info), rng)
    if not len(field):
        return
    at = int(rng.integers(len(field)))
    way = _pick(("drop", "double", "rename", "clear"), rng)
    if way == "drop":
        del field[at]
    elif way == "double":
        field.append(field[at])
    elif way == "rename":
        field[at].name = _pick(("", "other", *(o for node in graph.node for o in node.output)), rng)
    else:
        field[at].Clear()


def _function(model: onnx.ModelProto, rng: _Rng) -> None:
    """A function without parts, doubled, or with the name of an operator."""
    if function := _pick(model.functions, rng):
        way = _pick(("rename", "double", "inputs", "outputs", "attribute"), rng)
        if way == "rename":
            function.name, function.domain = _pick((("Mul", ""), ("", ""), ("RMSNorm", "rms_deploy")), rng)
        elif way == "double":
            model.functions.append(function)
        elif way == "attribute":
            function.attribute.append(_pick(("alpha", ""), rng))
        else:
            del (function.input if way == "inputs" else function.output)[:]


_CHANGES: tuple[Callable[[onnx.ModelProto, _Rng], None], ...] = (
    _drop_input, _empty_or_copy_name, _more_inputs, _node, _operator, _attribute, _attribute, _new_attribute,
    _element_type, _sizes, _raw_data, _external, _tensor_lists, _opset, _ir_version, _cycle, _recursion, _signature,
    _function,
)  # fmt: skip
