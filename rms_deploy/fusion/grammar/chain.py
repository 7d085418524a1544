"""What hands a tensor on to one reader: copies, a cast, and one Reshape; and the norms that can take what follows."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.ops.nodes import axes_of

__all__ = [
    "ends_with_last",
    "is_cast",
    "is_copy",
    "is_read_once",
    "is_view",
    "reader",
    "rounded",
    "says",
    "sources",
    "sum_of",
]

_SIZES: Final = ("Shape", "Size")
_MAX_STEPS: Final = 8


def ends_with_last(norm: ir.Node, facts: Facts) -> bool:
    """Whether the axes of a norm of ours end with the last of x."""
    last, rank = max(axes_of(norm)), facts.rank(norm.outputs[0])
    return says(norm, "axes") and (last == -1 or (rank is not None and last == rank - 1))


def says(norm: ir.Node, name: str) -> bool:
    """Whether `norm` itself says its attribute `name`, or has the default, and not each call of the function around."""
    attribute = norm.attributes.get(name)
    return attribute is None or not attribute.is_ref()


def sources(value: ir.Value | None, facts: Facts) -> tuple[list[ir.Value], ir.Node | None]:
    """`value`, and what it is a copy of; and the one Reshape among what copies it."""
    values: list[ir.Value] = []
    view: ir.Node | None = None
    while value is not None and len(values) < _MAX_STEPS:
        values.append(value)
        node = value.producer()
        if node is not None and view is None and is_view(node):
            view = node
        elif node is None or not is_copy(node, facts):
            break
        value = node.inputs[0]
    return values, view


def rounded(
    value: ir.Value, half: ir.DataType | None, facts: Facts, *, views: bool = True
) -> tuple[ir.Value, ir.Node | None, ir.DataType | None]:
    """What `value` becomes by a Reshape and the cast to `half`; and the Reshape, and `half` if it is cast."""
    back, to = None, None
    while (step := reader(value)) is not None:
        if views and back is None and is_view(step):
            back = step
        elif half is not None and to is None and is_cast(step, facts, half):
            to = half
        elif not is_copy(step, facts):
            break
        value = step.outputs[0]
    return value, back, to


def reader(value: ir.Value) -> ir.Node | None:
    """The one node that reads the numbers of `value`, in the graph of `value`."""
    readers = value.consumers()
    producer = value.producer()
    is_one = len(readers) == 1 and len(value.uses()) == 1 and not value.is_graph_output()
    return readers[0] if is_one and producer is not None and readers[0].graph is producer.graph else None


def is_read_once(value: ir.Value) -> bool:
    """Whether one node reads the numbers of `value`, whatever reads its shape."""
    return not value.is_graph_output() and sum(node.op_type not in _SIZES for node, _ in value.uses()) == 1


def is_view(node: ir.Node) -> bool:
    """Whether `node` is a Reshape."""
    return is_op(node, "Reshape") and len(node.inputs) == 2 and None not in node.inputs


def is_copy(node: ir.Node, facts: Facts) -> bool:
    """Whether `node` gives what it reads, in the same type."""
    value = node.inputs[0] if node.inputs else None
    return is_op(node, "Identity") or (value is not None and is_cast(node, facts, facts.dtype(value)))


def sum_of(value: ir.Value) -> ir.Node | None:
    """The Add, or Sum of two, that makes `value`."""
    add = value.producer()
    if add is None or not is_op(add, "Add", "Sum") or len(add.inputs) != 2 or None in add.inputs:
        return None
    return add


def is_cast(node: ir.Node, facts: Facts, to: ir.DataType | None) -> bool:
    """Whether `node` casts to the type `to`."""
    return to is not None and is_op(node, "Cast", "CastLike") and facts.cast_type(node) == to
