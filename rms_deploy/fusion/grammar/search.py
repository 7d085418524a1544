"""From an anchor along the consumers to every value where a norm ends.

A piece of the grammar takes (derivation, node that consumes its value, facts) and gives the derivation one step
further, or a refusal, or None where the node is nothing to it. A new spelling is a new piece in `_PIECES`, or a new
anchor in `_ANCHORS`; nothing else knows which spellings exist.

A norm ends at the first value that something else than a next piece reads. So statistics that several norms share, or
that are outputs of the graph, are never lost: what is still read stays. Where x / rms itself is read, the norm ends
there, and its scale stays a product: one norm, not two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from rms_deploy.fusion.grammar import casts, mean_square, native, normed, root, scaled, size
from rms_deploy.fusion.grammar.match import Derivation, Refusal, Stage
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.contract import DOMAIN

__all__ = ["Findings", "graphs_of", "search"]

_Piece = Callable[[Derivation, ir.Node, Facts], Derivation | Refusal | None]

_ANCHORS: dict[tuple[str, str], Callable[[ir.Node, Facts], Derivation | None]] = {
    ("", "Einsum"): mean_square.anchor_einsum,
    ("", "GlobalAveragePool"): mean_square.anchor,
    ("", "LpNormalization"): mean_square.anchor_normalized,
    ("", "ReduceL2"): mean_square.anchor,
    ("", "ReduceMean"): mean_square.anchor,
    ("", "ReduceSum"): mean_square.anchor,
    ("", "ReduceSumSquare"): mean_square.anchor,
    ("", "RMSNormalization"): native.anchor_native,
    ("", "SimplifiedLayerNormalization"): native.anchor_native,
    ("com.microsoft", "SimplifiedLayerNormalization"): native.anchor_native,
}

_PIECES: dict[str, tuple[_Piece, ...]] = {
    "Add": (root.add_epsilon,),
    "Cast": (casts.cast,),
    "CastLike": (casts.cast,),
    "Clip": (root.floor,),
    "Div": (size.average, root.invert, normed.normed, normed.scale_inverse),
    "Expand": (casts.expand,),
    "Identity": (casts.identity,),
    "Max": (root.floor,),
    "Mul": (size.average, root.square, normed.normed, normed.scale_inverse, scaled.scaled),
    "Pow": (root.power,),
    "Reciprocal": (root.invert,),
    "Reshape": (mean_square.reshape,),
    "Sqrt": (root.sqrt,),
    "Sub": (mean_square.variance,),
    "Unsqueeze": (mean_square.unsqueeze,),
}


@dataclass
class Findings:
    """What one anchor led to: norms, each at its end, and what looked like one."""

    norms: list[Derivation] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    furthest: Derivation | None = None
    allow_gain: bool = False

    def refuse(self, refusal: Refusal) -> None:
        """Keep `refusal` once."""
        if refusal not in self.refusals:
            self.refusals.append(refusal)


def search(anchor: ir.Node, facts: Facts, *, allow_gain: bool = False) -> Findings:
    """Every norm that is anchored at `anchor`; its length does not depend on the size of the graph.

    `allow_gain`: also take norms whose statistics the model rounds to a half type.
    """
    findings = Findings(allow_gain=allow_gain)
    start = _ANCHORS.get((anchor.domain, anchor.op_type))
    found = None if start is None else start(anchor, facts)
    if found is None:
        return findings
    _follow(found, facts, findings)
    last = findings.furthest
    nothing = not findings.norms and not findings.refusals
    if nothing and last is not None and last.stage > Stage.MEAN_SQUARE and not (last.is_sum or last.is_norm):
        findings.refuse(last.doubt or Refusal("normed", anchor, "nothing divides x by its root"))
    return findings


def graphs_of(model: ir.Model) -> Iterator[ir.Graph]:
    """Every graph whose nodes may be norms: the main one, the functions of others, and the bodies inside them."""
    graphs = [model.graph, *(f.graph for f in model.functions.values() if f.domain != DOMAIN)]
    for graph in graphs:  # grows
        yield graph
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
                    graphs.append(attribute.as_graph())
                elif attribute.type == ir.AttributeType.GRAPHS and not attribute.is_ref():
                    graphs.extend(attribute.as_graphs())


def _follow(found: Derivation, facts: Facts, findings: Findings) -> None:
    if findings.furthest is None or found.stage > findings.furthest.stage:
        findings.furthest = found
    steps = [_step(found, node, facts) for node in found.value.consumers()]
    if found.is_norm and (found.value.is_graph_output() or not all(isinstance(step, Derivation) for step in steps)):
        refusal = _refusal(found, findings)
        if refusal is None:
            findings.norms.append(found)
            return
        if found.anchor.op_type != "LpNormalization":  # one node with a name of its own, which is not this one
            findings.refuse(refusal)
    for step in steps:
        if isinstance(step, Derivation):
            _follow(step, facts, findings)
        elif step is not None:
            findings.refuse(step)


def _refusal(found: Derivation, findings: Findings) -> Refusal | None:
    """Why what looks like a norm at its end is not fused."""
    if found.doubt is not None:
        return found.doubt
    if found.is_sum:
        return Refusal("mean_square", found.anchor, "x is divided by the root of the sum of squares: an L2 norm")
    if found.dtype == ir.DataType.DOUBLE:
        return Refusal("casts", found.anchor, "the norm ends in float64; the op computes in float32")
    if found.gain is not None and not findings.allow_gain:
        return replace(found.gain, reason=f"{found.gain.reason}; --allow-precision-gain fuses it")
    return None


def _step(found: Derivation, node: ir.Node, facts: Facts) -> Derivation | Refusal | None:
    if node.domain != "" or node.graph is not found.anchor.graph:
        return None
    for piece in _PIECES.get(node.op_type, ()):
        step = piece(found, node, facts)
        if step is not None:
            return step
    return None
