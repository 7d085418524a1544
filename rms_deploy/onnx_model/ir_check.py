"""The check of a model that is in memory as onnx-ir has it: what can be wrong there."""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.onnx_model.graph_order import check_acyclic, check_calls
from rms_deploy.onnx_model.malformed import MalformedError, printable
from rms_deploy.onnx_model.node_rules import NodeRule, call_rule
from rms_deploy.onnx_model.scope import MAIN, FunctionId, Functions, Scope
from rms_deploy.onnx_model.tensor_check import check_tensor
from rms_deploy.onnx_model.tensor_slots import tensor_slots

__all__ = ["check_ir"]


def check_ir(model: ir.Model) -> dict[FunctionId, set[str]]:
    """Check nodes, functions and tensors; names and external data are no matter of onnx-ir's, or checked elsewhere.

    Returns:
        Domains that nodes of each function, or of the main graph, are of and that no opset is imported of.

    Raises:
        MalformedError: what is wrong, with the name of the node or tensor.
    """
    functions = Functions({key: call_rule(len(one.inputs), len(one.outputs)) for key, one in model.functions.items()})
    scopes = []
    for owner, graph in ((MAIN, model.graph), *((key, one.graph) for key, one in model.functions.items())):
        scope = Scope(owner, graph.opset_imports.items(), functions)
        graphs = [graph]
        for inner in graphs:  # grows
            graphs += _check_graph(inner, scope)
        scopes.append(scope)
    check_calls({scope.owner: scope.calls for scope in scopes}, {scope.owner: scope.nodes for scope in scopes}, MAIN)
    for tensor, _ in tensor_slots(model):
        if isinstance(tensor, ir.serde.TensorProtoTensor):
            check_tensor(tensor.raw)
    return {scope.owner: scope.unimported for scope in scopes if scope.unimported}


def _check_graph(graph: ir.Graph, scope: Scope) -> list[ir.Graph]:
    """Check the nodes, and that those which read what comes later do so in no circle; the bodies inside."""
    defined: set[ir.Value | None] = {None, *graph.inputs, *graph.initializers.values()}
    is_sorted = True
    bodies: list[ir.Graph] = []
    for node in graph:
        try:
            _check_node(node, scope, bodies)
        except MalformedError as error:
            raise MalformedError(f"{_label(node)}: {error}") from None
        is_sorted = is_sorted and defined.issuperset(node.inputs)
        defined.update(node.outputs)
    scope.nodes += len(graph)
    if not is_sorted:
        check_acyclic(
            [(_label(node), [value for value in node.inputs if value is not None], node.outputs) for node in graph]
        )
    return bodies


def _check_node(node: ir.Node, scope: Scope, bodies: list[ir.Graph]) -> None:
    op_type, domain, inputs, outputs = node.op_type, node.domain, node.inputs, node.outputs
    rule: NodeRule = scope.rules.get((domain, op_type)) or scope.rule(domain, op_type)
    if (domain, op_type) in scope.called:
        rule = scope.call(node.op_identifier(), rule)
    names = [value.name for value in outputs]
    if (
        not rule.min_inputs <= len(inputs) <= rule.max_inputs
        or not rule.min_outputs <= len(outputs) <= rule.max_outputs
        or None in inputs
        or "" in names
    ):
        given = ["" if value is None else "input" for value in inputs]
        rule.check_ends(op_type, given, ["" if name == "" else "output" for name in names])
    attributes = node.attributes
    for name, attribute in attributes.items():
        kind = attribute.type
        if rule.attributes.get(name) != kind.value:
            rule.check_attribute(op_type, printable(name), kind.value)
        elif name == rule.element_type and not attribute.is_ref():
            rule.check_element_type(op_type, attribute.as_int())
        if kind is ir.AttributeType.GRAPH and not attribute.is_ref():
            bodies.append(attribute.as_graph())
        elif kind is ir.AttributeType.GRAPHS and not attribute.is_ref():
            bodies.extend(attribute.as_graphs())
    if rule.needed_attributes:
        rule.check_needed(op_type, attributes)


def _label(node: ir.Node) -> str:
    return printable(node.name or (node.outputs[0].name if node.outputs else "") or node.op_type)
