"""The nodes of a model between the input of a norm and its end, as far as onnx's evaluator runs them."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.foreign_ops import CONTRIB_DOMAIN, SIMPLIFIED_LAYER_NORMALIZATION

__all__ = ["is_run", "nodes_between"]

_MAX_NODES: Final = 64


def nodes_between(end: ir.Value, names: dict[ir.Value, str], facts: Facts) -> list[ir.Node] | None:
    """The nodes between the named values, x first, and `end`, sorted; names what they read. None if too many."""
    nodes: dict[ir.Node, None] = {}
    entered: set[ir.Node] = set()
    x = next(iter(names))
    maker = x.producer()
    like_x = ("Identity", "" if maker is None else maker.op_type)
    waiting: list[tuple[ir.Value, bool]] = [(end, False)]
    while waiting:
        value, expanded = waiting.pop()
        node = value.producer()
        may_be_x = node is not None and node.op_type in like_x and value not in names and not expanded
        if may_be_x and facts.dtype(value) == facts.dtype(x) and facts.same(value, x):
            names[value] = names[x]
        if value in names and not expanded and value is not end:
            continue
        if node is None or not is_run(node):
            names[value] = f"v{len(names)}"
            continue
        if expanded:
            names.setdefault(value, f"v{len(names)}")
            nodes[node] = None
            continue
        entered.add(node)
        if len(entered) > _MAX_NODES:
            return None
        waiting.append((value, True))
        for source in node.inputs:
            if source is None or source in names:
                continue
            if node.op_type in ("Shape", "Size") and not _comes_from(source, x):
                names[source] = f"v{len(names)}"  # only its shape counts
            else:
                waiting.append((source, False))
    return list(nodes)


def is_run(node: ir.Node) -> bool:
    """Whether onnx's evaluator has the op, or gets it from `reference_ops`, and all of it is in the node."""
    is_known = node.domain == "" or (
        node.domain == CONTRIB_DOMAIN and node.op_type == SIMPLIFIED_LAYER_NORMALIZATION.op_type
    )
    return is_known and not any(_is_outside(attribute) for attribute in node.attributes.values())


def _is_outside(attribute: ir.Attr) -> bool:
    """Whether it is a graph, which reads what it likes, or a tensor whose data are in another file."""
    if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
        return isinstance(attribute.value, ir.ExternalTensor)
    return attribute.type == ir.AttributeType.GRAPH


def _comes_from(value: ir.Value, x: ir.Value) -> bool:
    """Whether `value` is computed from `x` in a few nodes, and so may be part of the norm itself."""
    reached, waiting = {value}, [value]
    for source in waiting:
        if source is x:
            return True
        node = source.producer()
        if node is not None and len(reached) < _MAX_NODES:
            new = [i for i in dict.fromkeys(node.inputs) if i is not None and i not in reached]
            reached.update(new)
            waiting += new
    return False
