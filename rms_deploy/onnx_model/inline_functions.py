"""Local functions put into the place of their calls, without two values of one name."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
from onnx_ir.passes import InvariantError, PassError
from onnx_ir.passes.common import InlinePass

from rms_deploy.errors import InputError
from rms_deploy.onnx_model.names import Names
from rms_deploy.ops.nodes import all_graphs

__all__ = ["inline_functions"]


def inline_functions(model: ir.Model, which: Callable[[ir.Function], bool] | None = None) -> bool:
    """Inline the functions for which `which` holds, or all; whether there was anything to inline.

    onnx-ir's pass does it, whose names may be those of values that it has not come to yet, in a body inside the graph,
    or of the inputs of such a body.

    Raises:
        InputError: a function cannot be inlined, as it calls itself or is of another opset than the model.
    """
    if not model.functions:
        return False
    before = {node for graph in all_graphs(_roots(model)) for node in graph}
    calls = {value.name: value for node in before if node.op_identifier() in model.functions for value in node.outputs}
    try:
        modified = InlinePass(which)(model).modified
    except (ValueError, InvariantError, PassError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise InputError(f"a local function cannot be inlined: {reason}") from error
    new = [node for graph in all_graphs(_roots(model)) for node in graph if node not in before]
    for value in (value for node in new for value in node.outputs if value.name in calls):
        _take_over(calls[value.name], value)
    Names(_roots(model)).settle(new)
    return modified


def _roots(model: ir.Model) -> list[ir.Graph]:
    return [model.graph, *(function.graph for function in model.functions.values())]


def _take_over(old: ir.Value, new: ir.Value) -> None:
    """What is said of the output of a call, which onnx-ir drops."""
    new.doc_string = old.doc_string or new.doc_string
    new.metadata_props.update(old.metadata_props)
    new.meta.update(old.meta)
