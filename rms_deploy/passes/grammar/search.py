"""From an anchor along the consumers to every value where a norm ends.

A piece of the grammar takes (derivation, node that consumes its value, facts) and gives the derivation one step
further, or a refusal, or None where the node is nothing to it. A new spelling is a new piece in `_PIECES`, or a new
anchor in `_ANCHORS`; nothing else knows which spellings exist.

A norm ends at every value that something else than a next piece reads. So statistics that several norms share, or that
are outputs of the graph, are never lost: what is still read stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from rms_deploy.contract import DOMAIN
from rms_deploy.passes.grammar import casts, mean_square, native, normed, root, scaled
from rms_deploy.passes.grammar.derivation import Derivation, Refusal, Stage
from rms_deploy.passes.grammar.facts import Facts

__all__ = ["Findings", "graphs_of", "search"]

_Piece = Callable[[Derivation, ir.Node, Facts], Derivation | Refusal | None]

_ANCHORS: dict[tuple[str, str], Callable[[ir.Node, Facts], Derivation | None]] = {
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
    "Div": (mean_square.average, root.invert, normed.normed, normed.scale_inverse),
    "Identity": (casts.identity,),
    "Max": (root.floor,),
    "Mul": (mean_square.average, normed.normed, normed.scale_inverse, scaled.scaled),
    "Pow": (root.power,),
    "Reciprocal": (root.invert,),
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

    def refuse(self, refusal: Refusal) -> None:
        """Keep `refusal` once."""
        if refusal not in self.refusals:
            self.refusals.append(refusal)


def search(anchor: ir.Node, facts: Facts) -> Findings:
    """Every norm that is anchored at `anchor`; its length does not depend on the size of the graph."""
    findings = Findings()
    start = _ANCHORS.get((anchor.domain, anchor.op_type))
    found = None if start is None else start(anchor, facts)
    if found is None:
        return findings
    _follow(found, facts, findings)
    last = findings.furthest
    if not findings.norms and not findings.refusals and last is not None and last.stage > Stage.MEAN_SQUARE:
        findings.refuse(last.doubt or Refusal("normed", anchor, "nothing divides x by its root"))
    return findings


def graphs_of(model: ir.Model) -> Iterator[ir.Graph]:
    """Every graph whose nodes may be norms: the main one, the functions of others, and the bodies inside them."""
    for graph in (model.graph, *(f.graph for f in model.functions.values() if f.domain != DOMAIN)):
        yield graph
        yield from graph.subgraphs()


def _follow(found: Derivation, facts: Facts, findings: Findings) -> None:
    if findings.furthest is None or found.stage > findings.furthest.stage:
        findings.furthest = found
    ends = found.value.is_graph_output()
    for node in found.value.consumers():
        step = _step(found, node, facts)
        if isinstance(step, Derivation):
            _follow(step, facts, findings)
            continue
        ends = True
        if step is not None:
            findings.refuse(step)
    if found.is_norm and ends:
        if found.doubt is not None:
            findings.refuse(found.doubt)
        else:
            findings.norms.append(found)


def _step(found: Derivation, node: ir.Node, facts: Facts) -> Derivation | Refusal | None:
    if node.domain != "" or node.graph is not found.anchor.graph:
        return None
    for piece in _PIECES.get(node.op_type, ()):
        step = piece(found, node, facts)
        if step is not None:
            return step
    return None
