"""normed(x): x / rms, or x * (1 / rms), of the very x that was squared."""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.passes.grammar.derivation import Derivation, Refusal, Stage
from rms_deploy.passes.grammar.facts import Facts
from rms_deploy.passes.grammar.square import readings

__all__ = ["normed"]

_PIECE = "normed"


def normed(found: Derivation, node: ir.Node, facts: Facts) -> Derivation | Refusal | None:
    """Div(x, root), Mul(x, inverse root), Mul(inverse root, x)"""
    if found.stage is Stage.ROOT and node.op_type == "Div" and node.inputs[1] is found.value:
        x = node.inputs[0]
    elif found.stage is Stage.INVERSE_ROOT and node.op_type == "Mul":
        x = node.inputs[1] if node.inputs[0] is found.value else node.inputs[0]
    else:
        return None
    if x is None:
        return None
    if not found.keeps_axes:
        reason = "the reduced axes were dropped (keepdims = 0) and not put back, so the root does not line up with x"
        return found.doubt or Refusal(_PIECE, node, reason)
    for reading in readings(found.x, facts):
        if not facts.same(x, reading.x):
            continue
        if reading.partial_size is None:
            return found.at(node.outputs[0], Stage.NORMED, x=reading.x)
        if found.axes == (-1,):
            n = facts.shape(reading.x)
            size = n[-1] if n and isinstance(n[-1], int) else None
            return found.at(node.outputs[0], Stage.NORMED, x=reading.x, n=size, partial_size=reading.partial_size)
    return found.doubt or Refusal(
        _PIECE, node, f"another tensor is divided by the root ({x.name}) than was squared ({found.x.name})"
    )
