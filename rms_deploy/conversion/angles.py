"""The nodes between positions and their sines: a half type counts to 2048, and loses the angle of what is beyond."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from rms_deploy.conversion.type_rules import touches_float32
from rms_deploy.onnx_model.analysis import is_op
from rms_deploy.ops.nodes import all_graphs

__all__ = ["nodes_of_angles"]


def nodes_of_angles(model: ir.Model) -> dict[ir.Node, str]:
    """The float32 nodes that compute a Sin or Cos from integers, as rotary and time embeddings do, and why they stay.

    That is what lies between a Cast of integers, or a Range, and a Sin or Cos, both included.
    """
    nodes = [node for graph in all_graphs([model.graph]) for node in graph if touches_float32(node)]
    behind = _reached((node for node in nodes if _counts(node)), forward=True)
    before = _reached((node for node in nodes if is_op(node, "Sin", "Cos")), forward=False)
    reason = "between positions and a Sin or Cos"
    return {node: reason for node in nodes if node in behind and node in before}


def _counts(node: ir.Node) -> bool:
    """Whether `node` makes floats of whole numbers."""
    if is_op(node, "Range"):
        return True
    source = node.inputs[0] if is_op(node, "Cast") and node.inputs else None
    return source is not None and source.dtype is not None and source.dtype.is_integer()


def _reached(starts: Iterable[ir.Node], *, forward: bool) -> set[ir.Node]:
    """What reads what `starts` give, and so on, or the other way round, through float32 values only."""
    waiting = list(starts)
    reached = set(waiting)
    while waiting:
        node = waiting.pop()
        values = [v for v in (node.outputs if forward else node.inputs) if v is not None and v.dtype == _FLOAT]
        neighbours = [u for v in values for u in (v.consumers() if forward else [v.producer()]) if u is not None]
        new = set(neighbours) - reached
        reached |= new
        waiting += new
    return reached


_FLOAT = ir.DataType.FLOAT
