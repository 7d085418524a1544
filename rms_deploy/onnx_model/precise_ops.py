"""Operators of ONNX whose shapes onnx gives up where they can be told, written as others of the same shape.

torch's legacy exporter computes positions with Range, halves with Slice and groups with Tile, and onnx then knows
nothing of the batch and the length of a sequence.

1. Slice whose bounds are computed: the axes that it does not cut keep their size.
2. Tile by constants: the axes that it does not repeat keep their size.
3. Range(0, n, 1) of an n that is an element of a shape, which may be cast to a float: n elements.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
import onnx.helper
import onnx_ir as ir
from onnx_ir import serde

from rms_deploy.ops.nodes import given_inputs

__all__ = ["precise_op"]

_EXACT: Final = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT32, ir.DataType.INT64)
"""Types of positions that count to every length of a sequence."""

_MAX_STEPS: Final = 8
_MAX_REPEATS: Final = 64


def precise_op(node: ir.Node, graph: onnx.GraphProto) -> bool:
    """Add to `graph` what has the shape of `node` and tells more of it, if it is one of these operators."""
    if node.domain != "" or not node.outputs or not node.outputs[0].name or not node.inputs or node.inputs[0] is None:
        return False
    make = {"Range": _range, "Slice": _slice, "Tile": _tile}.get(node.op_type)
    return make is not None and make(node, graph)


def _slice(node: ir.Node, graph: onnx.GraphProto) -> bool:
    """Case 1: Gather, with as many indices as nobody knows."""
    inputs = given_inputs(node)
    if len(inputs) < 4 or all(map(_is_constant, inputs[1:3])):
        return False
    axes, name, output = _integers(inputs[3]), inputs[0] and inputs[0].name, node.outputs[0].name
    if not axes or len(set(axes)) != len(axes) or 0 in axes or not name or not output:
        return False  # along the first axis shapes are sliced, of which onnx knows more
    for number, axis in enumerate(axes, 1):
        indices, result = f"{output}/indices{number}", output if number == len(axes) else f"{output}/{number}"
        graph.input.append(onnx.helper.make_tensor_value_info(indices, onnx.TensorProto.INT64, (None,)))
        graph.node.append(onnx.helper.make_node("Gather", [name, indices], [result], axis=axis))
        name = result
    return True


def _tile(node: ir.Node, graph: onnx.GraphProto) -> bool:
    """Case 2: Concat."""
    repeats = _integers(node.inputs[1]) if len(node.inputs) == 2 else None
    name, output = node.inputs[0] and node.inputs[0].name, node.outputs[0].name
    if not repeats or not name or not output or any(not 1 <= count <= _MAX_REPEATS for count in repeats):
        return False
    for axis, count in enumerate(repeats):
        if count > 1:
            result = f"{output}/{axis}"
            graph.node.append(onnx.helper.make_node("Concat", [name] * count, [result], axis=axis))
            name = result
    graph.node.append(onnx.helper.make_node("Identity", [name], [output]))
    return True


def _range(node: ir.Node, graph: onnx.GraphProto) -> bool:
    """Case 3: ConstantOfShape."""
    start, limit, delta = node.inputs
    output = node.outputs[0].name
    size = _before_casts(limit)
    if _number(start) != 0 or _number(delta) != 1 or size is None or not size.name or limit is None or not output:
        return False
    if size is limit and _number(limit) is not None:
        return False
    tensor = _tensor(start)
    if tensor is None or tensor.dtype not in _EXACT:
        return False
    zero, length = onnx.helper.make_tensor(f"{output}/zero", onnx.TensorProto.INT64, [1], [0]), f"{output}/length"
    graph.initializer.append(zero)
    graph.node.append(onnx.helper.make_node("Unsqueeze", [size.name, zero.name], [length]))
    value = serde.serialize_tensor(ir.tensor(np.zeros(1, tensor.dtype.numpy())))
    graph.node.append(onnx.helper.make_node("ConstantOfShape", [length], [output], value=value))
    return True


def _before_casts(value: ir.Value | None) -> ir.Value | None:
    """The int64 value behind casts that keep small integers: an element of a shape."""
    for _ in range(_MAX_STEPS):
        node = None if value is None else value.producer()
        if node is None or node.domain != "":
            return None
        if node.op_type in ("Gather", "Squeeze"):
            return value
        if node.op_type not in ("Cast", "Identity"):
            return None
        value = node.inputs[0]
    return None


def _tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """A constant of few elements."""
    node = None if value is None else value.producer()
    tensor = None if value is None or value.is_graph_input() else value.const_value
    if node is not None and node.domain == "" and node.op_type == "Constant":
        attribute = next(iter(node.attributes.values()), None)
        if attribute is None or attribute.is_ref():
            return None
        if attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.value
        elif attribute.name in ("value_int", "value_ints"):
            tensor = ir.tensor(np.asarray(attribute.value, np.int64))
    if tensor is None or tensor.size > _MAX_REPEATS or isinstance(tensor, ir.ExternalTensor):
        return None
    return None if tensor.dtype == ir.DataType.STRING else tensor


def _is_constant(value: ir.Value | None) -> bool:
    node = None if value is None else value.producer()
    return value is None or value.const_value is not None or (node is not None and node.op_type == "Constant")


def _integers(value: ir.Value | None) -> tuple[int, ...] | None:
    tensor = _tensor(value)
    array = None if tensor is None else tensor.numpy()
    return None if array is None or array.dtype.kind != "i" else tuple(int(i) for i in array.reshape(-1))


def _number(value: ir.Value | None) -> float | None:
    tensor = _tensor(value)
    return None if tensor is None or tensor.size != 1 else float(tensor.numpy().reshape(()))
