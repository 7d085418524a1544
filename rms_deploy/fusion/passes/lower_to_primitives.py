"""Our ops as the operators that every runtime knows."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from rms_deploy.ops.contract import DOMAIN, OPS
from rms_deploy.ops.function_body import function_body
from rms_deploy.ops.nodes import norm_nodes, write_defaults

__all__ = ["LowerToPrimitives"]


class LowerToPrimitives(ir.passes.InPlacePass):
    """Put the body of each of our nodes into its place: Pow, ReduceMean, Add, Sqrt, Div, Mul, and the casts.

    Each node gets a body of its own, with nothing that it does not need, in the rounding order that it has.

    Raises:
        InputError: the model's opset has no operator for what a node needs.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Lower in place."""
        nodes = list(norm_nodes(model))
        for key in [key for key in model.functions if key[0] == DOMAIN]:
            del model.functions[key]
        bodies: dict[str, str] = {}
        for node in nodes:
            write_defaults(node)
            body = function_body(OPS[node.op_type], [node], opset=model.opset_imports[""])
            name = bodies.setdefault(body.SerializeToString(deterministic=True), f"{node.op_type}_{len(bodies)}")
            body.name = node.op_type = name
            function = ir.serde.deserialize_function(body)
            model.functions[function.identifier()] = function
        if nodes:
            InlinePass(lambda function: function.domain == DOMAIN)(model)
            for graph in model.graphs():
                graph.opset_imports.pop(DOMAIN, None)
            for function in model.functions.values():
                function.opset_imports.pop(DOMAIN, None)
            model.opset_imports.pop(DOMAIN, None)
        return ir.passes.PassResult(model, bool(nodes))
