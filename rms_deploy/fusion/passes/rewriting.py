"""Replacing values in a graph, and taking away what nothing reads any more."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import onnx_ir as ir

from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.ops.nodes import bodies_of

__all__ = ["annotate", "drop_unread_initializer", "place_of", "read_shape_of", "remove_if_dead", "successor"]


_MAX_MOVED: Final = 64
"""Nodes that compute the scale or the shift of one norm."""


def successor(old: ir.Value, facts: Facts) -> ir.Value:
    """A new value with the name, type, shape and notes of `old`, for a node that will produce it instead."""
    dtype = facts.dtype(old)
    new = ir.Value(
        name=old.name,
        type=old.type if old.type is not None or dtype is None else ir.TensorType(dtype),
        shape=old.shape,
        doc_string=old.doc_string,
        metadata_props=dict(old.metadata_props),
    )
    facts.add(new, like=old)
    new.meta.update(old.meta)  # onnx-ir keeps quantization annotations there
    return new


def annotate(value: ir.Value, facts: Facts) -> None:
    """Write down the element type of an input of our ops: their function bodies depend on it."""
    dtype = facts.dtype(value)
    if value.type is None and dtype is not None:
        value.type = ir.TensorType(dtype)


def place_of(
    first: ir.Node,
    last: ir.Node,
    inputs: Iterable[ir.Value | None],
    outputs: Iterable[ir.Value],
    position: dict[ir.Node, float],
) -> ir.Node | None:
    """After which node an op can stand that replaces all from `first` to `last`, in the graph of both.

    1. `first`, where all `inputs` are computed before it.
    2. `last`, where nothing between reads the `outputs`, which something else reads too.
    3. `first`, where the `inputs` do not depend on it: what computes them is moved before it.
    4. Else None: there is no place. So it is where one of the `inputs` is one of the `outputs`.

    Args:
        first: what gives the first of what the op gives.
        last: what gives the last.
        inputs: of the op.
        outputs: of `first`, for others.
        position: of all nodes of the graph; changed in case 3. Nodes that were moved to one place have one position.
    """
    inputs, outputs = list(inputs), list(outputs)
    if any(value is output for value in inputs for output in outputs):
        return None
    late = _makers_behind(first, inputs, position)
    if late == []:
        return first
    readers = [reader for value in outputs for reader in value.consumers()]
    if all(reader is last or (reader.graph is last.graph and position[reader] > position[last]) for reader in readers):
        return last
    if late is None or first.graph is None:
        return None
    first.graph.insert_before(first, late)
    position.update(dict.fromkeys(late, math.ceil(position[first]) - 0.5))
    return first


def _makers_behind(
    first: ir.Node, values: Iterable[ir.Value | None], position: dict[ir.Node, float]
) -> list[ir.Node] | None:
    """The nodes behind `first` that make `values`, sorted.

    None: they depend on `first`, hold graphs, are too many, or one was moved to the same place as `first`.
    """
    made: dict[ir.Node, None] = {}
    entered: set[ir.Node] = set()
    waiting = [(value, False) for value in values]
    while waiting:
        value, is_entered = waiting.pop()
        node = None if value is None else value.producer()
        if is_entered and node is not None:
            made[node] = None
        elif node is not None and node not in entered and node.graph is first.graph:
            if position[node] < position[first]:
                continue
            entered.add(node)
            is_behind = position[node] > position[first]
            if not is_behind or len(entered) > _MAX_MOVED or next(bodies_of(node), None) is not None:
                return None
            waiting += [(value, True), *((source, False) for source in node.inputs)]
    return list(made)


def read_shape_of(x: ir.Value, instead_of: ir.Value) -> None:
    """Let what reads the shape of a value, or of its copies and casts, read that of `x`, which has the same."""
    copies: list[ir.Node] = []
    values = [instead_of]
    for value in values:  # grows
        for reader, index in tuple(value.uses()):
            if is_op(reader, "Shape", "Size"):
                reader.replace_input_with(index, x)
            elif is_op(reader, "Cast", "CastLike", "Identity") and index == 0:
                values.append(reader.outputs[0])
                copies.append(reader)
    for copy in reversed(copies):
        remove_if_dead(copy)


def remove_if_dead(node: ir.Node) -> None:
    """Remove `node` if nothing reads it, and then whatever it alone was reading: nodes and initialisers."""
    waiting = [node]
    while waiting:
        dead = waiting.pop()
        if dead.graph is None or any(value.uses() or value.is_graph_output() for value in dead.outputs):
            continue
        inputs = [value for value in dict.fromkeys(dead.inputs) if value is not None]
        dead.graph.remove(dead, safe=True)
        for value in inputs:
            producer = value.producer()
            if producer is not None:
                waiting.append(producer)
            else:
                drop_unread_initializer(value)


def drop_unread_initializer(value: ir.Value) -> None:
    """Remove `value` if it is an initialiser that nothing reads."""
    if value.is_initializer() and not (value.uses() or value.is_graph_input() or value.is_graph_output()):
        assert value.graph is not None
        assert value.name is not None
        value.graph.initializers.pop(value.name)
