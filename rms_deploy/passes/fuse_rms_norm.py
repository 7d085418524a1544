"""Decomposed and native RMSNorms as one op of our domain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from rms_deploy.contract import DOMAIN, VERSION
from rms_deploy.passes.emission import emission, explicit_attributes
from rms_deploy.passes.grammar import Derivation, Facts, Refusal, graphs_of, search
from rms_deploy.passes.rewriting import annotate, remove_if_dead, successor, unit_scale

__all__ = ["FuseRMSNorm", "FuseRMSNormResult"]


@dataclass
class FuseRMSNormResult(ir.passes.PassResult):
    """The model, and why things that look like RMSNorm were left."""

    refusals: tuple[Refusal, ...]


class FuseRMSNorm(ir.passes.InPlacePass):
    """Every RMSNorm that the grammar derives becomes one RMSNorm or PartialRMSNorm node.

    1. Where the norm ends, a node of our domain takes the name of the value and its place in the graph.
    2. A norm without scale gets a scalar scale of one, shared by all of them.
    3. Where a norm of a half type ends in float32, and no float32 x is there to start from, x is cast first.
    4. Nodes and initialisers that only the norm read are removed; what something else reads stays.

    The main graph, the bodies inside it, and local functions are treated alike. Function bodies are not attached.
    """

    def __init__(self, facts: Facts | None = None) -> None:
        """`facts` of the model, where several passes share them; they are looked up anew if none are given."""
        super().__init__()
        self.facts = facts

    def call(self, model: ir.Model) -> FuseRMSNormResult:
        """Fuse in place."""
        facts = self.facts or Facts(model)
        refusals: list[Refusal] = []
        modified = False
        for graph in list(graphs_of(model)):
            for anchor in tuple(graph):
                if anchor.graph is None:  # went away with a norm before it
                    continue
                findings = search(anchor, facts)
                refusals += findings.refusals
                replaced: dict[ir.Value, ir.Value] = {}
                for found in findings.norms:
                    replaced[found.value] = _replace(found, model, facts, replaced)
                    modified = True
        return FuseRMSNormResult(model, modified, tuple(refusals))


def _replace(found: Derivation, model: ir.Model, facts: Facts, replaced: Mapping[ir.Value, ir.Value]) -> ir.Value:
    """Put the op where the norm ends; `replaced` are the ends of other norms with the same anchor."""
    last = found.value.producer()
    assert last is not None
    assert last.graph is not None
    graph = last.graph
    op = emission(found, facts)
    x = op.x
    if op.needs_cast(facts):  # case 3
        cast = ir.node("Cast", [x], {"to": op.dtype})
        cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(op.dtype), x.shape
        graph.insert_before(last, cast)
        x = cast.outputs[0]
    scale = unit_scale(model, graph, last) if op.scale is None else replaced.get(op.scale, op.scale)  # case 2
    annotate(x, facts)
    annotate(scale, facts)
    output = successor(found.value, facts)
    node = ir.Node(
        DOMAIN,
        op.op_type,
        [x, scale],
        explicit_attributes(op.op_type, op.attributes),
        outputs=[output],
        name=last.name,
        doc_string=last.doc_string,
        metadata_props=dict(last.metadata_props),
    )
    graph.insert_after(last, node)
    found.value.replace_all_uses_with(output, replace_graph_outputs=True)
    graph.opset_imports[DOMAIN] = VERSION
    remove_if_dead(last)  # case 4
    return output
