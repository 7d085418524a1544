"""The names that ONNX Runtime gave when it inlined our bodies, and will give again."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from rms_deploy.onnx_model.names import Names
from rms_deploy.ops.contract import DOMAIN, OPS
from rms_deploy.ops.nodes import all_graphs

__all__ = ["rename_inlined"]

_INLINED: Final = tuple(f"_inlfunc_{name}" for name in OPS)
"""How ONNX Runtime begins the names of what it inlines."""


def rename_inlined(model: ir.Model) -> bool:
    """Rename what ONNX Runtime inlined of our bodies in a model that it saved; whether there was any such thing.

    It takes the same names when it inlines a body into that model, and refuses two constants of one name. Inputs and
    outputs of the model keep their names.
    """
    graphs = list(all_graphs([model.graph]))
    nodes = [node for graph in graphs for node in graph if node.name and node.name.startswith(_INLINED)]
    values = [
        value
        for graph in graphs
        for value in (*graph.initializers.values(), *(value for node in graph for value in node.outputs))
        if value.name
        and value.name.startswith(_INLINED)
        and not (value.is_graph_input() or (value.is_graph_output() and graph is model.graph))
    ]
    if nodes or values:
        names = Names([model.graph, *(f.graph for f in model.functions.values() if f.domain != DOMAIN)])
        for value in values:
            names.rename(value, _bare(value.name))
        for node in nodes:
            names.rename(node, _bare(node.name))
    return bool(nodes or values)


def _bare(name: str | None) -> str:
    return (name or "").lstrip("_")
