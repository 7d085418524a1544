"""A residual stream in float32 and the norm of a half type that reads it, as one op."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from rms_deploy.fusion.grammar.float32_sum import Float32Sum, float32_sum_of
from rms_deploy.fusion.passes.fuse_part import FusePart, FuseResult
from rms_deploy.fusion.passes.rewriting import annotate, place_of, read_shape_of, remove_if_dead, successor
from rms_deploy.fusion.proof.prove_pass import PassProver, keep_proof
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.nodes import graphs_of

__all__ = ["FuseFloat32Sum", "why_not_in_float32"]

_WHY_NOT: Final = "rms_deploy.float32_sum"
"""Key of a norm's `meta`: why running it kept its sum outside."""


class FuseFloat32Sum(FusePart):
    """RMSNorm of a rounded float32 sum becomes AddRMSNorm, and a float32 AddRMSNorm that is rounded AddFloat32RMSNorm.

    1. `grammar/float32_sum.py` says which sums the ops have. The op has the half type, and its sum float32; or the half
       type too, where everything that reads the sum rounds it.
    2. The op stands where the Add, or the AddRMSNorm, stood, or where the norm ended if its scale is computed later.
       Where something between reads the sum, what computes the scale is moved.
    3. With `prove`, each is run in both forms first. Where they differ, the norm stays what it was.
    """

    def call(self, model: ir.Model) -> FuseResult:
        """Fuse in place."""
        facts, modified = self.facts or Facts(model), False
        prover = self.prover(facts)
        for graph in list(graphs_of(model)):
            nodes = tuple(graph)
            position: dict[ir.Node, float] = {node: index for index, node in enumerate(nodes)}
            for norm in nodes:
                found = float32_sum_of(norm, facts)
                place = None if found is None else _place(found, position)
                if found is not None and place is not None and _holds(found, facts, prover):
                    position[_replace(found, place, facts)] = position[place]
                    modified = True
        return FuseResult(model, modified, True)


def why_not_in_float32(norm: ir.Node) -> str | None:
    """Why running `norm` kept its float32 sum outside; None: it did not."""
    why_not = norm.meta.get(_WHY_NOT)
    return why_not and f"its float32 sum stays outside: {why_not}"


def _place(found: Float32Sum, position: dict[ir.Node, float]) -> ir.Node | None:
    """Case 2."""
    first, last = found.total.producer(), found.end.producer()
    assert first is not None
    assert last is not None
    others = [value for value in (found.total, *found.rounded_totals) if value is not found.end]
    return place_of(first, last, (found.x, found.residual, *found.factors), others, position)


def _holds(found: Float32Sum, facts: Facts, prover: PassProver | None) -> bool:
    """Case 3: whether both forms agree, or are not run."""
    if prover is None:
        return True
    given = {facts.origin(value) for value in (found.x, found.residual, *found.factors)}
    totals = found.rounded_totals[:1] if found.is_rounded else (found.total,)
    return keep_proof(found.norm, prover.between(given, [found.end, *totals], x=found.x, norm=found.norm), _WHY_NOT)


def _replace(found: Float32Sum, place: ir.Node, facts: Facts) -> ir.Node:
    norm, graph = found.norm, found.norm.graph
    assert graph is not None
    for value in (found.x, found.residual, *found.factors):
        annotate(value, facts)
    y = successor(found.end, facts)
    totals = found.rounded_totals if found.is_rounded else (found.total,)
    total = successor(totals[0], facts) if totals else _unread(found, facts)
    node = ir.Node(
        DOMAIN,
        found.op.name,
        [found.x, found.residual, *found.factors],
        [attribute for name, attribute in norm.attributes.items() if name != "scale_type" or found.scale_type is None],
        outputs=[y, total],
        name=norm.name,
        doc_string=norm.doc_string,
        metadata_props=dict(norm.metadata_props),
    )
    if found.scale_type is not None and found.scale_type != ir.DataType.FLOAT:
        node.attributes["scale_type"] = ir.AttrInt64("scale_type", found.scale_type)
    node.meta.update(norm.meta)
    graph.insert_after(place, node)
    read_shape_of(found.x, norm.outputs[0])
    dead = [value.producer() for value in (found.end, *totals, found.total)]
    for old in totals:
        old.replace_all_uses_with(total, replace_graph_outputs=True)
    found.end.replace_all_uses_with(y, replace_graph_outputs=True)
    for last in dead:
        if last is not None:
            remove_if_dead(last)
    return node


def _unread(found: Float32Sum, facts: Facts) -> ir.Value:
    """The sum of the half type, which nothing reads."""
    total = ir.Value(
        name=found.total.name, type=ir.TensorType(found.x.dtype or ir.DataType.FLOAT), shape=found.total.shape
    )
    facts.add(total, like=found.total)
    return total
