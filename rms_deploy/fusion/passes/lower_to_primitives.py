"""Our ops as the operators that every runtime knows."""

from __future__ import annotations

from collections.abc import Set

import onnx
import onnx_ir as ir

from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.split_quantization import split_quantization
from rms_deploy.ops.contract import DOMAIN, OPS
from rms_deploy.ops.function_body import node_body
from rms_deploy.ops.nodes import write_defaults

__all__ = ["LowerToPrimitives"]

_NODE_NAME = "node"
"""How the nodes of a body are named, but for the last, which has the name of ours."""


class LowerToPrimitives(ir.passes.InPlacePass):
    """Put the body of each of our nodes into its place: Pow, ReduceMean, Add, Sqrt, Div, Mul, and the casts.

    Each node gets a body of its own, with nothing that it does not need, in the rounding order that it has.
    Quantisation is QuantizeLinear with constants.

    Raises:
        InputError: the model's opset has no operator for what a node needs.
    """

    def __init__(self, keep: Set[str] = frozenset()) -> None:
        """`keep`: the names of nodes of ours that stay."""
        super().__init__()
        self.keep = keep

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Lower in place."""
        for key in [key for key in model.functions if key[0] == DOMAIN and key[1] in OPS]:
            del model.functions[key]
        into = NewNodes(model)
        modified = False
        for root in (model.graph, *(f.graph for f in model.functions.values() if f.domain != DOMAIN)):
            opset = root.opset_imports.get("", model.opset_imports[""])
            nodes = [
                node
                for node in ir.traversal.RecursiveGraphIterator(root)
                if _is_ours(node) and node.name not in self.keep
            ]
            for node in nodes:
                write_defaults(node)
                if OPS[node.op_type].is_quantized:
                    node = split_quantization(node, into, opset)
                _place(node, node_body(OPS[node.op_type], node, opset=opset), into)
            if nodes:
                root.opset_imports.setdefault("", opset)
                if not self.keep:
                    root.opset_imports.pop(DOMAIN, None)
            modified |= bool(nodes)
        if modified and not self.keep:
            model.opset_imports.pop(DOMAIN, None)
        return ir.passes.PassResult(model, modified)


def _is_ours(node: ir.Node) -> bool:
    return node.domain == DOMAIN and node.op_type in OPS


def _place(call: ir.Node, body: onnx.FunctionProto, into: NewNodes) -> None:
    """Put the nodes of `body` into the place of `call`."""
    values: dict[str, ir.Value | None] = dict(zip(body.input, call.inputs, strict=True))
    nodes = []
    for proto in body.node:
        node = ir.Node(
            proto.domain,
            proto.op_type,
            [values[name] for name in proto.input],
            [_attribute(attribute, call) for attribute in proto.attribute],
            outputs=[ir.Value(name=name) for name in proto.output],
            name=_NODE_NAME,
            metadata_props=dict(call.metadata_props),
        )
        values.update(zip(proto.output, node.outputs, strict=True))
        nodes.append(node)
    nodes[-1].name = call.name or _NODE_NAME
    nodes[-1].doc_string = call.doc_string
    ends = [values[name] for name in body.output]
    into.replace(call, nodes, [value for value in ends if value is not None])


def _attribute(given: onnx.AttributeProto, call: ir.Node) -> ir.Attr:
    """An attribute of the body; one that refers to an attribute of the op has its value."""
    if not given.ref_attr_name:
        return ir.serde.deserialize_attribute(given)
    return ir.Attr(given.name, ir.AttributeType(given.type), call.attributes[given.ref_attr_name].value)
