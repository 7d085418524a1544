"""LateCasts: a weight is widened once the numbers that it meets are there, in whatever order a runtime goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from rms_deploy.onnx_model.analysis import is_op
from rms_deploy.onnx_model.names import Names
from rms_deploy.ops.nodes import bodies_of

__all__ = ["LateCasts"]

_MIN_OPSET: Final = 10
"""The first in which a Slice reads its bounds."""


class LateCasts(ir.passes.InPlacePass):
    """Make the Cast of each weight wait for the value that its reader reads besides.

    A Cast of an input can run at once. Of the nodes that can run, ONNX Runtime takes the one with the lowest number
    first, and the nodes that it makes itself, of a CastLike for example, have the highest numbers. Where a model waits
    for such a node, all Casts run first, and all weights are in memory in the wider type. So y = MatMul(x, Cast(w))
    becomes

        none = Slice(Shape(x), [0], [0])      no dims, but not before x is there
        dims = Concat(none, the shape of w)
        y    = MatMul(x, Cast(Reshape(w, dims)))

    1. Where other nodes are between, such as a Transpose of the weight, x is what the first node reads that
       reads anything besides weights and constants.
    2. A Cast whose reader reads only inputs of the model besides can run at once, and stays. So does one inside a body,
       and one for a node that has a body or reads a sequence.
    3. Below opset 10 all stay.
    """

    def __init__(self, weights: Mapping[str, ir.TensorProtocol]) -> None:
        """`weights`: by the name of the input of the model."""
        super().__init__()
        self._weights = weights

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model in place."""
        waits = list(_waits(model.graph, self._weights))
        if not waits or model.graph.opset_imports.get("", 0) < _MIN_OPSET:  # case 3
            return ir.passes.PassResult(model, False)
        names = Names([model.graph])
        zero = _constant(model.graph, names, "rms_deploy_zero", [0])
        for cast, value in waits:
            self._make_wait(cast, value, zero, names)
        model.graph.sort()
        return ir.passes.PassResult(model, True)

    def _make_wait(self, cast: ir.Node, value: ir.Value, zero: ir.Value, names: Names) -> None:
        weight, graph = cast.inputs[0], cast.graph
        assert weight is not None
        assert weight.name is not None
        assert isinstance(graph, ir.Graph)
        shape = _constant(graph, names, f"{weight.name}_shape", self._weights[weight.name].shape.numpy())
        of_value = ir.node("Shape", [value])
        none = ir.node("Slice", [of_value.outputs[0], zero, zero])
        dims = ir.node("Concat", [none.outputs[0], shape], {"axis": 0})
        late = ir.node("Reshape", [weight, dims.outputs[0]])
        for node in (of_value, none, dims, late):
            node.outputs[0].name = names.unique(f"{weight.name}_{node.op_type.lower()}")
        graph.insert_before(cast, [of_value, none, dims, late])
        cast.replace_input_with(0, late.outputs[0])


def _waits(graph: ir.Graph, weights: Mapping[str, ir.TensorProtocol]) -> Iterator[tuple[ir.Node, ir.Value]]:
    """Each Cast of a weight that can wait, and for which value."""
    constant: dict[ir.Value, list[ir.Node]] = {}
    """What is made of weights and constants alone, and by which Casts."""
    seen: set[ir.Node] = set()
    for node in graph:
        inputs = [value for value in node.inputs if value is not None]
        casts = [cast for value in inputs for cast in constant.get(value, ()) if cast not in seen]
        others = [value for value in inputs if value not in constant and value.const_value is None]
        if is_op(node, "Cast") and inputs[0].is_graph_input() and inputs[0].name in weights:
            constant[node.outputs[0]] = [node]
        elif not others:  # case 1
            constant |= dict.fromkeys(node.outputs, casts)
        else:
            seen.update(casts)
            computed = [value for value in others if value.producer() is not None]
            if computed and not is_op(node, "SequenceInsert") and not any(True for _ in bodies_of(node)):  # case 2
                yield from ((cast, computed[0]) for cast in dict.fromkeys(casts))


def _constant(graph: ir.Graph, names: Names, name: str, numbers: Sequence[int]) -> ir.Value:
    tensor = ir.tensor(np.array(numbers, np.int64), name=names.unique(name))
    value = ir.val(tensor.name, const_value=tensor)
    graph.register_initializer(value)
    return value
