"""The nodes of our ops in a model, and their attributes; the contract's defaults where a node has none of its own."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

import onnx_ir as ir

from rms_deploy.ops.contract import DOMAIN, OPS

__all__ = [
    "all_graphs",
    "axes_of",
    "bodies_of",
    "float_of",
    "given_inputs",
    "graphs_of",
    "int_of",
    "label",
    "norm_nodes",
    "place_of",
    "require_onnx_opset",
    "scale_of",
    "shaped_inputs",
    "write_defaults",
]


def norm_nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Every node of `model` whose op is ours, subgraphs and the functions of others included."""
    for graph in graphs_of(model):
        for node in graph:
            if node.domain == DOMAIN and node.op_type in OPS:
                yield node


def require_onnx_opset(model: ir.Model) -> None:
    """Import an opset of ONNX, for the bodies of our ops, if the model has no operator of ONNX and imports none."""
    model.opset_imports.setdefault("", 18)


def write_defaults(node: ir.Node) -> None:
    """Give `node` the attributes that it leaves out."""
    for attribute, value in OPS[node.op_type].defaults().items():
        if attribute not in node.attributes:
            node.attributes.add(ir.convenience.convert_attribute(attribute, value))


def given_inputs(node: ir.Node) -> tuple[ir.Value | None, ...]:
    """The inputs of `node` without those at the end that are left out by an empty name."""
    inputs = node.inputs
    count = len(inputs)
    while count and inputs[count - 1] is None:
        count -= 1
    return tuple(inputs[:count])


def scale_of(node: ir.Node) -> ir.Value | None:
    """The scale of a node of ours."""
    return node.inputs[OPS[node.op_type].scale_index]


def shaped_inputs(node: ir.Node) -> tuple[ir.Value | None, ...]:
    """The inputs of a node of ours that have the shape of X."""
    return tuple(node.inputs[: OPS[node.op_type].scale_index])


def graphs_of(model: ir.Model, *, ours: bool = False) -> Iterator[ir.Graph]:
    """The main graph, those of the functions of others and, if `ours`, of our own ops, and all bodies inside them."""
    functions = (function.graph for function in model.functions.values() if ours or function.domain != DOMAIN)
    return all_graphs((model.graph, *functions))


def all_graphs(roots: Iterable[ir.Graph]) -> Iterator[ir.Graph]:
    """`roots`, and the bodies inside them."""
    graphs = list(roots)
    for graph in graphs:  # grows
        yield graph
        for node in graph:
            if node.domain == DOMAIN and node.op_type in OPS:
                continue  # our ops hold no graphs, and have most of the attributes of a fused model
            if node.attributes:
                graphs.extend(bodies_of(node))


def bodies_of(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs that are attributes of `node`."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS and not attribute.is_ref():
            yield from attribute.as_graphs()


def label(node: ir.Node) -> str:
    """How messages name a node."""
    return node.name or (node.outputs[0].name if node.outputs else None) or node.op_type


def axes_of(node: ir.Node) -> tuple[int, ...]:
    """The attribute `axes` of a node of ours; the default too where only the calls of a function say it."""
    attribute = node.attributes.get("axes")
    default = OPS[node.op_type].defaults()["axes"]
    assert isinstance(default, tuple)
    return default if attribute is None or attribute.is_ref() else tuple(attribute.as_ints())


def float_of(node: ir.Node, name: str) -> float:
    """The attribute `epsilon`, `rms_epsilon`, `rms_min` or `y_scale` of a node of ours."""
    attribute = node.attributes.get(name)
    value = OPS[node.op_type].defaults()[name] if attribute is None else attribute.as_float()
    assert isinstance(value, float)
    return value


def int_of(node: ir.Node, name: str) -> int:
    """The attribute `scale_type` or `output_dtype` of a node of ours."""
    attribute = node.attributes.get(name)
    value = OPS[node.op_type].defaults()[name] if attribute is None else attribute.as_int()
    assert isinstance(value, int)
    return value


def place_of(node: ir.Node) -> str:
    """The module that `node` came from, as torch's exporters write it: in the metadata, or as a path in the name."""
    scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")
    if scopes:
        try:
            names = ast.literal_eval(scopes)
            return str(names[-2]) if len(names) > 1 else ""
        except (ValueError, SyntaxError, TypeError):
            return ""
    name = node.name or ""
    return name.strip("/").rpartition("/")[0] if name.startswith("/") else ""
