"""Our ops again, where other tools renamed them or took an output from them."""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.onnx_model.malformed import MalformedError
from rms_deploy.onnx_model.names import Names
from rms_deploy.onnx_model.node_rules import node_rule
from rms_deploy.ops.contract import DOMAIN, OPS, VERSION, Op
from rms_deploy.ops.element_types import ELEMENT_NAMES
from rms_deploy.ops.nodes import graphs_of, int_of

__all__ = ["restore_ops"]

_FLOAT32 = ir.DataType.FLOAT


def restore_ops(model: ir.Model) -> dict[ir.Node, str]:
    """Make our ops again of the nodes of our domain that none of our libraries would take; changes `model`.

    1. `onnx.compose` renames the functions of a model that it gives a prefix: `rms_deploy::a_RMSNorm` is RMSNorm.
    2. Tools that prune the outputs which nobody reads take the Sum of an AddRMSNorm: it comes back, under a new name.
    3. Tools that convert a model from a half type to another type do not know `scale_type`: it follows X.

    Returns:
        What was wrong with each node that was restored.
    """
    names = Names([model.graph, *(f.graph for f in model.functions.values() if f.domain != DOMAIN)])
    restored: dict[ir.Node, str] = {}
    for graph in graphs_of(model):
        for node in graph:
            if node.domain != DOMAIN:
                continue
            op = OPS.get(node.op_type) or _renamed(node)
            if op is None:
                continue
            if node.op_type != op.name:  # case 1
                restored[node] = f"called {node.op_type}"
                _rename(model, node.op_identifier(), op.name)
                node.op_type = op.name
            if [value.name for value in node.outputs[1:]] in ([], [""]) and len(op.outputs) > 1:  # case 2
                restored[node] = f"without its {op.outputs[1][0]}"
                _add_sum(node, names)
            x = node.inputs[0]
            if x is not None and x.dtype in ELEMENT_NAMES and int_of(node, "scale_type") not in (_FLOAT32, x.dtype):
                restored[node] = f"a scale_type that is not that of X, {ELEMENT_NAMES[x.dtype]}"  # case 3
                node.attributes["scale_type"] = ir.AttrInt64("scale_type", x.dtype)
    return restored


def _renamed(node: ir.Node) -> Op | None:
    """The op whose name follows a prefix, if `node` may be one."""
    name = max((name for name in OPS if node.op_type.endswith(name)), key=len, default=None)
    return None if name is None or not _fits(node, name) else OPS[name]


def _fits(node: ir.Node, name: str) -> bool:
    """Whether `node` has the inputs, outputs and attributes of the op; a call of a function may have any."""
    rule = node_rule(DOMAIN, name, VERSION)
    assert rule is not None
    inputs = [None if value is None else value.name for value in node.inputs]
    try:
        rule.check_ends(name, inputs, [value.name for value in node.outputs])
        rule.check_needed(name, node.attributes)
        for attribute in node.attributes.values():
            if rule.attributes.get(attribute.name) != attribute.type:
                rule.check_attribute(name, attribute.name, attribute.type)
    except MalformedError:
        return False
    return True


def _rename(model: ir.Model, key: ir.OperatorIdentifier, name: str) -> None:
    """Give a function, if it is there, the name of the op; one that has the name already stays."""
    function = model.functions.pop(key, None)
    if function is not None:
        function.name = name
        model.functions.setdefault(function.identifier(), function)


def _add_sum(node: ir.Node, names: Names) -> None:
    """Sum has the type of R, and the shape of Y."""
    y, residual = node.outputs[0], node.inputs[1]
    node.resize_outputs(2)
    total = node.outputs[1]
    total.name, total.shape = names.unique(f"{y.name}_sum"), y.shape
    total.type = None if residual is None else residual.type
