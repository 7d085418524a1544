"""Shape inference of a proto with loops: a carried value has the shape that it comes with, if the body keeps it.

What a Loop carries may change its shape from one iteration to the next, whatever its body declares. So onnx infers
nothing of it. Here each carried value is assumed to have the shape of its initial value; onnx infers all others from
that; and an assumption holds if what the body gives back has that shape too. A dim for which it does not hold is given
up, and onnx infers again. When all assumptions hold at once they are proven, by induction over the iterations.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Final

import onnx
import onnx.shape_inference

from rms_deploy.onnx_model.body_protos import WITH_BODIES, bodies
from rms_deploy.onnx_model.inferable import Shape, known_of

__all__ = ["infer_with_loops"]

_MAX_ROUNDS: Final = 8
"""After so many inferences nothing is assumed any more."""

_Shapes = MutableMapping[str, Shape | None]
"""By name."""


def infer_with_loops(proto: onnx.ModelProto, *, data_prop: bool) -> onnx.ModelProto:
    """`proto` with the types and shapes that onnx infers, where no body of a loop declares what it carries.

    `data_prop`: whether onnx propagates the data of shape computations.

    Changes `proto`: what is proven of the loops is written to it.

    Raises:
        InferenceError, RuntimeError, ValueError: onnx cannot infer anything.
    """
    bare = inferred = onnx.shape_inference.infer_shapes(proto, data_prop=data_prop)
    assumptions = [_Assumption() for _ in _carried(proto.graph, {})]
    for _ in range(_MAX_ROUNDS if assumptions else 0):
        found = list(_carried(inferred.graph, {}))
        pairs = list(zip(assumptions, found, strict=True))
        # What is not known yet may be once another loop is assumed to keep a shape.
        changes = [assumption.make(value) for assumption, value in pairs]
        if not any(changes):
            changes = [assumption.give_up(value) for assumption, value in pairs]
        if not any(changes):
            return inferred
        for assumption, value in zip(assumptions, _carried(proto.graph, {}), strict=True):
            assumption.write(value)
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=data_prop)
    for value in _carried(proto.graph, {}):
        _Assumption().write(value)  # what was not proven, and the next inference would read
    return bare


@dataclass(frozen=True)
class _Carried:
    """One tensor that a Loop carries."""

    graph: onnx.GraphProto
    """In which the Loop stands."""
    declared: dict[str, onnx.ValueInfoProto]
    """What the graph says of its results, by name."""
    before: onnx.ValueInfoProto
    """The input of the body."""
    initial: Shape | None
    """The shape of the initial value."""
    next: Shape | None
    """The shape of what the body gives back."""
    after: str
    """The name of the result; empty: nothing reads it."""


@dataclass
class _Assumption:
    """What is assumed of the shape of one value that a Loop carries."""

    shape: Shape | None = None
    made: bool = False
    """An assumption is made once, and then only given up, dim by dim."""

    def make(self, value: _Carried) -> bool:
        """Assume the initial shape, once it is known; whether it is now."""
        if self.made or value.initial is None:
            return False
        self.shape, self.made = value.initial, True
        return True

    def give_up(self, value: _Carried) -> bool:
        """Give up what does not hold; whether there was any."""
        old = self.shape
        if old is not None:
            found = (value.initial, value.next)
            if any(shape is None or len(shape) != len(old) for shape in found):
                self.shape = None
            else:
                dims = zip(old, *(shape or () for shape in found), strict=True)
                self.shape = tuple(dim if dim == a == b else None for dim, a, b in dims)
        return self.shape != old

    def write(self, value: _Carried) -> None:
        """Declare it, in the proto that is inferred next."""
        _declare(value.before, self.shape)
        if value.after:
            if value.after not in value.declared:
                value.declared[value.after] = value.graph.value_info.add(name=value.after)
            value.declared[value.after].type.CopyFrom(value.before.type)


def _declare(info: onnx.ValueInfoProto, shape: Shape | None) -> None:
    tensor = info.type.tensor_type
    tensor.ClearField("shape")
    if shape is not None:
        tensor.shape.SetInParent()
        for dim in shape:
            added = tensor.shape.dim.add()
            if isinstance(dim, int):
                added.dim_value = dim
            elif dim is not None:
                added.dim_param = dim


def _carried(graph: onnx.GraphProto, outer: _Shapes) -> Iterator[_Carried]:
    """The tensors that the loops in `graph` carry, at any depth."""
    nodes = [node for node in graph.node if node.op_type in WITH_BODIES]
    if not nodes:
        return
    shapes = ChainMap(_shapes(graph), outer)
    declared = {info.name: info for info in (*graph.output, *graph.value_info)}
    for node in nodes:
        for body in bodies(node):
            if node.op_type == "Loop" and node.domain == "":
                inside = ChainMap(_shapes(body), shapes)
                for number, before in enumerate(body.input[2:]):
                    if before.type.HasField("tensor_type") and len(node.input) > 2 + number < 1 + len(body.output):
                        initial, result = node.input[2 + number], body.output[1 + number].name
                        after = node.output[number] if number < len(node.output) else ""
                        yield _Carried(graph, declared, before, shapes.get(initial), inside.get(result), after)
            yield from _carried(body, shapes)


def _shapes(graph: onnx.GraphProto) -> _Shapes:
    """The shapes of the values of `graph`, by name."""
    shapes: _Shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        shapes[info.name] = known_of(info.type.tensor_type)[1]
    return shapes
