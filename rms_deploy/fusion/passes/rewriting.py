"""Replacing values in a graph, and taking away what nothing reads any more."""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.onnx_model.analysis import Facts

__all__ = ["annotate", "drop_unread_initializer", "remove_if_dead", "successor"]


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
