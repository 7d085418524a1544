"""The values of our norms with the shapes that are proven, for passes that read them off the values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir

from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.inference import Shape, dims_of
from rms_deploy.ops.nodes import axes_of, graphs_of, norm_nodes, shaped_inputs

__all__ = ["proven_shapes"]


@contextmanager
def proven_shapes(model: ir.Model, facts: Facts) -> Iterator[None]:
    """While it lasts, the shapes of norms are those that are proven, where it matters; then what the file says again.

    1. Of X and the results of a norm, the rank and the dims that are normalised over matter; of a scale, all dims.
    2. Where they are proven, the value keeps the shape that the file says, with the names of its dims.
    """
    said: dict[ir.Graph, dict[str, ir.Shape]] = {}
    changed: list[tuple[ir.Value, ir.Shape]] = []
    for node in norm_nodes(model):
        for value in (*node.inputs, *node.outputs):
            if value is None or value.shape is None:
                continue
            proven = facts.shape(value)
            axes = None if value not in (*shaped_inputs(node), *node.outputs) else axes_of(node)
            if not _is_proven(dims_of(value.shape) or (), proven, axes):
                changed.append((value, value.shape))
                if value.graph is not None and value.name is not None:
                    said.setdefault(value.graph, {})[value.name] = value.shape
                value.shape = None if proven is None else ir.Shape(proven)
    try:
        yield
    finally:
        for value, shape in changed:
            value.shape = shape
        for graph in graphs_of(model) if said else ():
            names = said.get(graph, {})
            for node in graph if names else ():
                for value in node.outputs:
                    if value.name in names:
                        value.shape = names[value.name]


def _is_proven(said: Shape, proven: Shape | None, axes: tuple[int, ...] | None) -> bool:
    """Whether the rank is right, and the dims at `axes`, or all; a dim that is said to be a symbol is no claim."""
    if proven is None or len(said) != len(proven):
        return False
    of_interest = range(len(said)) if axes is None else [axis for axis in axes if -len(said) <= axis < len(said)]
    return all(said[axis] == proven[axis] or not isinstance(said[axis], int) for axis in of_interest)
