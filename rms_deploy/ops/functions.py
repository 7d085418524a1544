"""The bodies of our ops as local functions of a model."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from rms_deploy.ops.contract import DOMAIN, OPS, VERSION
from rms_deploy.ops.function_body import function_body
from rms_deploy.ops.nodes import norm_nodes, require_onnx_opset, write_defaults

__all__ = ["attach_functions"]

_FUNCTIONS_IR_VERSION: Final = 8
"""The first in which a model has functions."""


def attach_functions(model: ir.Model) -> None:
    """Give `model` the body of each of our ops that it uses, and take away bodies that it does not.

    Changes `model`: its functions of domain `rms_deploy`, its opset imports, and its IR version where that has no
    functions. Attributes that a node leaves out are written to it with their defaults, because onnx's own inliner and
    evaluator do not fill in the defaults of a function.

    Raises:
        InputError: the model's opset is too old to express a body that its nodes need.
    """
    nodes: dict[str, list[ir.Node]] = {}
    for node in norm_nodes(model):
        op = OPS[node.op_type]
        for name in {op.name, op.without_quantization.name}:  # the body of the one calls the other
            nodes.setdefault(name, []).append(node)
    for key in [key for key in model.functions if key[0] == DOMAIN and key[1] in OPS]:
        del model.functions[key]
    if not nodes:
        model.opset_imports.pop(DOMAIN, None)
        return
    require_onnx_opset(model)
    model.opset_imports[DOMAIN] = VERSION
    model.ir_version = max(model.ir_version, _FUNCTIONS_IR_VERSION)
    bodies: dict[ir.OperatorIdentifier, ir.Function] = {}
    for name, users in sorted(nodes.items()):
        for node in users:
            write_defaults(node)
        function = ir.serde.deserialize_function(function_body(OPS[name], users, opset=model.opset_imports[""]))
        bodies[function.identifier()] = function
    # Ours come first: onnx's evaluator wants the functions that another one calls before it.
    others = dict(model.functions)
    model.functions.clear()
    model.functions.update({**bodies, **others})
