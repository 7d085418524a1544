"""One norm cut out of its model, as a small model of its own and as the op that is to replace it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import onnx
import onnx.helper
import onnx_ir as ir
from onnx_ir import serde

from rms_deploy.fusion.grammar.match import Match
from rms_deploy.fusion.proof.node_slice import is_run, nodes_between
from rms_deploy.fusion.replacement import Replacement, explicit_attributes
from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.constants import constant
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.foreign_ops import CONTRIB_DOMAIN
from rms_deploy.ops.functions import attach_functions

__all__ = ["MAX_ELEMENTS", "MAX_RANK", "Subgraph", "concrete", "cut", "renamed"]

_SYMBOL_SIZES: Final = (2, 3, 5, 7)
MAX_ELEMENTS: Final = 2**20
"""Elements of an input beyond which a norm is not run."""
MAX_RANK: Final = 32
"""Axes that numpy has in all versions."""
_SHAPE_DEPENDENT: Final = (
    "AveragePool",
    "Expand",
    "Flatten",
    "MatMul",
    "Conv",
    "Reshape",
    "Shape",
    "Size",
    "Transpose",
)


@dataclass(frozen=True)
class Subgraph:
    """A norm in both forms. Their inputs have the same names."""

    original: onnx.ModelProto
    shapes: dict[str, tuple[int, ...]]
    """Of the inputs of `original`; x comes first."""
    op: Replacement
    axes: tuple[int, ...]
    scale: str | None
    factor: str | None
    opset: int
    n: int
    """Number of elements normalised over."""
    view: tuple[onnx.NodeProto, ...]
    """What makes X of the input x, where X is a reshaped or transposed view of it."""
    key: bytes = field(repr=False)
    """Equal for subgraphs that compute the same."""

    def rewritten(self) -> onnx.ModelProto:
        """The norm as our op, with its function body."""
        dtypes = {value.name: ir.DataType(value.type.tensor_type.elem_type) for value in self.original.graph.input}
        names = ("x", self.scale or "x", self.factor or "x")  # x may be its own scale
        inputs = {name: ir.Value(name=name, type=ir.TensorType(dtypes[name])) for name in names}
        source = inputs["x"]
        x = ir.Value(name=self.view[-1].output[0], type=source.type) if self.view else source
        nodes: list[ir.Node] = []

        def add(op_type: str, sources: list[ir.Value], dtype: ir.DataType, **attributes: float) -> ir.Value:
            nodes.append(ir.node(op_type, sources, attributes))
            nodes[-1].outputs[0].type = ir.TensorType(dtype)
            return nodes[-1].outputs[0]

        wide = x
        if wide.dtype != self.op.dtype:
            wide = add("Cast", [wide], self.op.dtype, to=self.op.dtype)
        scale = inputs[self.scale] if self.scale else add("Constant", [], ir.DataType.FLOAT, value_float=1.0)
        if scale.dtype not in (self.op.dtype, ir.DataType.FLOAT):
            scale = add("Cast", [scale], ir.DataType.FLOAT, to=ir.DataType.FLOAT)
        y = ir.Value(name="y", type=ir.TensorType(self.op.dtype))
        attributes = explicit_attributes(self.op.op_type, self.op.attributes)
        nodes.append(ir.Node(DOMAIN, self.op.op_type, [wide, scale], attributes, outputs=[y]))
        if self.factor:
            nodes.append(ir.node("Mul", [y, inputs[self.factor]]))
            y = nodes[-1].outputs[0]
            y.name, y.type = "scaled", ir.TensorType(self.op.dtype)
        graph = ir.Graph(
            list(inputs.values()), [y], nodes=nodes, opset_imports={"": max(self.opset, 13), DOMAIN: 1}, name="subgraph"
        )
        model = ir.Model(graph, ir_version=8)
        attach_functions(model)
        proto = ir.to_proto(model)
        if self.view:
            nodes_after = list(proto.graph.node)
            del proto.graph.node[:]
            proto.graph.node.extend((*self.view, *nodes_after))
            proto.graph.initializer.extend(self.original.graph.initializer)
        return proto


def cut(match: Match, op: Replacement, facts: Facts) -> Subgraph | str:
    """The subgraph of `match`, or why it cannot be cut out."""
    x = facts.origin(op.x)
    source = x if match.source is None else facts.origin(match.source)
    names: dict[ir.Value, str] = {source: "x"}
    if op.scale is not None:
        names.setdefault(op.scale, "scale")
    if op.factor is not None:
        names.setdefault(op.factor, "factor")
    given = (source, op.scale, op.factor)
    nodes = nodes_between(match.value, names, facts)
    view = () if source is x else nodes_between(x, names, facts)
    if nodes is None or view is None:
        return "it depends on more nodes than are run"
    fixed = op.factor is not None or any(node.op_type in _SHAPE_DEPENDENT for node in nodes)
    sizes = _sizes_beside(op.factor, x, facts)
    axes = _from_the_end(match.axes, facts.rank(x))  # a scale has fewer than x
    graph = onnx.GraphProto(name="subgraph")
    shapes: dict[str, tuple[int, ...]] = {}
    for value, name in list(names.items()):
        if not _is_leaf(value, names, given) or name in shapes:
            continue
        array = None if value in given else constant(value, facts)
        dtype = facts.dtype(value)
        if array is not None:
            graph.initializer.append(onnx.numpy_helper.from_array(array, name))
            continue
        shape = concrete(value, facts, sizes, axes if value in (source, op.scale) and not fixed else None)
        is_constant = value.const_value is not None or is_op(value.producer(), "Constant")
        if shape is None or dtype is None or (is_constant and value not in given):
            return f"the type or the shape of {value.name} is not known"
        shapes[name] = shape
        graph.input.append(onnx.helper.make_tensor_value_info(name, int(dtype), shape))
    if any(math.prod(shape) > MAX_ELEMENTS for shape in shapes.values()):
        return "its static shape is too large to be run"
    of_x = shapes["x"] if source is x else concrete(x, facts, sizes, None)
    rank = 0 if of_x is None else len(of_x)
    if of_x is None or rank > MAX_RANK or any(not -rank <= axis < rank for axis in match.axes):
        return f"it cannot be run over the axes {list(match.axes)} of a tensor of rank {rank}"
    graph.node.extend(renamed(node, names) for node in nodes)
    graph.output.add(name=names[match.value])
    opset = facts.model.opset_imports.get("", 0)
    original = onnx.ModelProto(ir_version=8, graph=graph)
    original.opset_import.add(domain="", version=opset)
    original.opset_import.add(domain=CONTRIB_DOMAIN, version=1)
    attributes = sorted(op.attributes.items())
    key = graph.SerializeToString(deterministic=True) + repr((op.op_type, attributes, op.dtype)).encode()
    scale, factor = (None if value is None else names[value] for value in (op.scale, op.factor))
    n = math.prod(of_x[axis] for axis in match.axes)
    made = tuple(renamed(node, names) for node in view)
    return Subgraph(original, shapes, op, match.axes, scale, factor, opset, n, made, key)


def _is_leaf(value: ir.Value, names: dict[ir.Value, str], given: tuple[ir.Value | None, ...]) -> bool:
    node = value.producer()
    if value in given or node is None:
        return True
    inside = node.op_type == "Constant" or bool(node.inputs)
    return not (inside and is_run(node) and all(source is None or source in names for source in node.inputs))


def _from_the_end(axes: tuple[int, ...], rank: int | None) -> tuple[int, ...]:
    return tuple(axis % rank - rank for axis in axes) if rank else axes


def _sizes_beside(factor: ir.Value | None, x: ir.Value, facts: Facts) -> dict[str, int]:
    """The sizes that symbols of `x` need for a product with `factor`."""
    shape, of_x = None if factor is None else facts.shape(factor), facts.likely_shape(x)
    pairs = zip(reversed(shape or ()), reversed(of_x or ()), strict=False)
    return {dim: size for size, dim in pairs if isinstance(dim, str) and isinstance(size, int) and size > 1}


def concrete(
    value: ir.Value, facts: Facts, sizes: dict[str, int], axes: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    """The shape of `value` with a number for every symbol; with `axes`, static dims outside them are made small."""
    shape = facts.likely_shape(value)
    if shape is None:
        return None
    block = (
        set(range(len(shape)))
        if axes is None
        else {axis % len(shape) for axis in axes if -len(shape) <= axis < len(shape)}
    )
    return tuple(_sizes(shape, sizes, block))


def _sizes(shape: tuple[int | str | None, ...], sizes: dict[str, int], block: set[int]) -> Iterator[int]:
    for axis, dim in enumerate(shape):
        if isinstance(dim, int):
            yield dim if axis in block else min(dim, 3)
        else:
            yield sizes.setdefault(dim or f"?{len(sizes)}", _SYMBOL_SIZES[len(sizes) % len(_SYMBOL_SIZES)])


def renamed(node: ir.Node, names: dict[ir.Value, str]) -> onnx.NodeProto:
    """`node` alone, its values under these names."""
    proto = onnx.NodeProto()
    serde.serialize_node_into(proto, node)
    proto.ClearField("name")
    proto.ClearField("doc_string")
    del proto.metadata_props[:]
    del proto.input[:]
    proto.input.extend("" if value is None else names[value] for value in node.inputs)
    del proto.output[:]
    proto.output.extend(names.get(value, "") for value in node.outputs)
    return proto
