"""Identity and casts: what they do to each stage of a norm.

1. Identity, and a cast to the own type, change nothing anywhere.
2. A cast of the statistics to another type is something that the op cannot express.
3. A cast of x / rms, or of scale * x / rms, back to the type that x came in belongs to the norm; any other ends it.
"""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.passes.grammar.derivation import Derivation, Stage
from rms_deploy.passes.grammar.facts import ELEMENT_NAMES, Facts

__all__ = ["cast", "identity"]

_PIECE = "casts"


def identity(found: Derivation, node: ir.Node, facts: Facts) -> Derivation:  # noqa: ARG001 - the signature of a piece
    """value -> value"""
    return found.at(node.outputs[0])


def cast(found: Derivation, node: ir.Node, facts: Facts) -> Derivation | None:
    """Cast, CastLike"""
    if node.inputs[0] is not found.value:
        return None
    output, to, of_x = node.outputs[0], facts.cast_type(node), facts.dtype(facts.origin(found.x))
    if to is not None and to == (of_x if found.is_narrow else ir.DataType.FLOAT):
        return found.at(output)
    if not found.is_norm:
        name = "another type" if to is None else ELEMENT_NAMES.get(to, to.name.lower())
        return found.at(output).doubting(
            _PIECE, node, f"the statistics are cast to {name} before x is normalised; the op keeps them in float32"
        )
    if to is None or to != of_x or to not in ELEMENT_NAMES:
        return None
    if found.stage is Stage.NORMED:
        return found.at(output, Stage.ROUNDED)
    return found.at(output, Stage.DONE) if found.stage is Stage.SCALED else None
