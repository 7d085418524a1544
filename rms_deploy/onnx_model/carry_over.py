"""What a model says beside what it computes, from one model to another that was made of it."""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.onnx_model.names import Names
from rms_deploy.ops.nodes import all_graphs, bodies_of

__all__ = ["carry_over"]


def carry_over(old: ir.Model, new: ir.Model) -> None:
    """Give `new` the documentation, metadata, types and names of `old`.

    A value of `new` is that of `old` by its name, a node by the name of what it computes. Whatever is in `new` alone
    gets names that are unique in it. Where `old` declares shapes between its ends, which may be wrong where no runtime
    looks at them, `new` declares no others: those were inferred from them.
    So where values of two graphs have one name.
    """
    new.producer_name, new.producer_version = old.producer_name, old.producer_version
    new.domain, new.model_version, new.doc_string = old.domain, old.model_version, old.doc_string
    new.metadata_props.update(old.metadata_props)
    if _declares_shapes(old.graph) or _has_namesakes(old.graph):
        _forget_types(new.graph)
    made = _carry_over(old.graph, new.graph)
    Names([new.graph]).settle(made)


def _carry_over(old: ir.Graph, new: ir.Graph) -> list[ir.Node]:
    """Of one graph and its bodies; the nodes that are in `new` alone."""
    new.name, new.doc_string = old.name, old.doc_string
    new.metadata_props.update(old.metadata_props)
    nodes: dict[str | None, ir.Node] = {
        node.outputs[0].name: node for node in old if node.outputs and node.outputs[0].name
    }
    values: dict[str | None, ir.Value] = {value.name: value for value in (*old.inputs, *old.initializers.values())}
    values |= {value.name: value for node in old for value in node.outputs}
    made: list[ir.Node] = []
    for value in {*new.inputs, *new.initializers.values()}:
        _describe(values.get(value.name), value)
    for node in new:
        for value in node.outputs:
            _describe(values.get(value.name), value)
        before = nodes.get(node.outputs[0].name) if node.outputs else None
        if before is None:
            made.append(node)
            made += [inner for graph in all_graphs(bodies_of(node)) for inner in graph]
            continue
        node.name, node.doc_string = before.name, before.doc_string
        node.metadata_props.update(before.metadata_props)
        node.meta.update(before.meta)
        for old_body, new_body in zip(bodies_of(before), bodies_of(node), strict=False):
            made += _carry_over(old_body, new_body)
    return made


def _declares_shapes(graph: ir.Graph) -> bool:
    return any(value.shape is not None and not value.is_graph_output() for node in graph for value in node.outputs)


def _has_namesakes(graph: ir.Graph) -> bool:
    """Whether values of two graphs have one name: onnx's inference takes the shape of one for that of the other."""
    names = [value.name for body in all_graphs([graph]) for node in body for value in node.outputs if value.name]
    return len(set(names)) < len(names)


def _forget_types(graph: ir.Graph) -> None:
    for value in (value for body in all_graphs([graph]) for node in body for value in node.outputs):
        if not value.is_graph_output():
            value.type = value.shape = None


def _describe(old: ir.Value | None, new: ir.Value) -> None:
    if old is None:
        return
    new.doc_string = old.doc_string
    new.metadata_props.update(old.metadata_props)
    new.meta.update(old.meta)
    new.type = old.type if old.type is not None else new.type
    new.shape = old.shape if old.shape is not None else new.shape
