"""Putting nodes into a model, under names that nothing else in it has."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Final

import numpy as np
import onnx_ir as ir

from rms_deploy.onnx_model.names import Names
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.nodes import all_graphs

__all__ = ["UNIT_SCALE", "NewNodes"]

UNIT_SCALE: Final = "rms_deploy_unit_scale"
"""Name of the initialiser that stands for no scale."""

_FIRST_IR_WITH_CONSTANT_INITIALIZERS: Final = 4
"""Before it, each initialiser is a graph input too."""


class NewNodes:
    """What one pass puts into one model."""

    def __init__(self, model: ir.Model) -> None:
        """`model`, which no one else puts nodes into meanwhile."""
        self._model = model
        self.names: Final = Names([model.graph, *(f.graph for f in model.functions.values() if f.domain != DOMAIN)])

    def before(self, place: ir.Node, *nodes: ir.Node) -> ir.Value:
        """Put `nodes` before `place`; what the last one gives."""
        assert place.graph is not None
        place.graph.insert_before(place, nodes)
        self.names.settle(nodes)
        return nodes[-1].outputs[0]

    def replace(self, node: ir.Node, nodes: Sequence[ir.Node], values: Sequence[ir.Value]) -> None:
        """Put `nodes` into the place of `node`, whose outputs `values` become; one of `nodes` may have its name."""
        assert node.graph is not None
        for old, value in zip(node.outputs, values, strict=True):
            value.doc_string = old.doc_string
            value.metadata_props.update(old.metadata_props)
            value.meta.update(old.meta)  # onnx-ir keeps quantization annotations there
        ir.convenience.replace_nodes_and_values(node.graph, node, [node], nodes, node.outputs, values)
        heir = [made for made in nodes if made.name and made.name == node.name][:1]
        self.names.settle(nodes, keep=[*values, *heir])

    def unit_scale(self, before: ir.Node) -> ir.Value:
        """A float32 scalar of one: one initialiser for the whole model; a Constant where there can be none."""
        one = ir.tensor(np.float32(1))
        in_function = id(before.graph) in self._graphs_of_functions  # which have no initialisers
        if in_function or self._model.ir_version < _FIRST_IR_WITH_CONSTANT_INITIALIZERS:
            value = self.before(before, ir.node("Constant", [], {"value": one}))
            value.type, value.shape = ir.TensorType(one.dtype), ir.Shape(())
            return value
        if self._shared.graph is None:
            self._model.graph.register_initializer(self._shared)
        return self._shared

    @cached_property
    def _shared(self) -> ir.Value:
        """The initialiser: one that is there, or a new one that is not in the graph yet."""
        name = UNIT_SCALE
        while self.names.is_taken(name):
            old = self._model.graph.initializers.get(name)
            if old is not None and _is_one(old) and not self._is_shadowed(name):
                return old
            name += "_"
        one = ir.tensor(np.float32(1))
        return ir.Value(
            name=self.names.unique(name), type=ir.TensorType(one.dtype), shape=ir.Shape(()), const_value=one
        )

    def _is_shadowed(self, name: str) -> bool:
        """Whether a body has a value of its own that is called like an initialiser of the model."""
        bodies = (graph for graph in all_graphs([self._model.graph]) if graph is not self._model.graph)
        return any(
            name == value.name
            for body in bodies
            for value in (*body.inputs, *body.initializers.values(), *(v for node in body for v in node.outputs))
        )

    @cached_property
    def _graphs_of_functions(self) -> set[int]:
        return {id(graph) for graph in all_graphs(f.graph for f in self._model.functions.values())}


def _is_one(value: ir.Value) -> bool:
    """Whether an initialiser is a float32 scalar of one, which no caller replaces and which lies in no other file."""
    one = value.const_value
    if one is None or value.is_graph_input() or isinstance(one, ir.ExternalTensor):
        return False
    return one.dtype == ir.DataType.FLOAT and tuple(one.shape) == () and one.numpy() == 1
