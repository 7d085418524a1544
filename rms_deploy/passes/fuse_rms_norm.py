"""Decomposed and native RMSNorms as one op of our domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from rms_deploy.contract import DOMAIN, VERSION
from rms_deploy.passes.emission import NATIVE_OPS, emission, explicit_attributes
from rms_deploy.passes.expand_skip_norm import ExpandSkipNorm
from rms_deploy.passes.grammar import Derivation, Facts, Refusal, graphs_of, search
from rms_deploy.passes.report import NOTE, PROOF
from rms_deploy.passes.rewriting import annotate, remove_if_dead, successor, unit_scale
from rms_deploy.passes.site_proof import Proof, SiteProver

__all__ = ["FuseRMSNorm", "FuseRMSNormResult"]


@dataclass
class FuseRMSNormResult(ir.passes.PassResult):
    """The model, and why things that look like RMSNorm were left."""

    refusals: tuple[Refusal, ...]


class FuseRMSNorm(ir.passes.InPlacePass):
    """Every RMSNorm that the grammar derives becomes one RMSNorm or PartialRMSNorm node.

    1. Where the norm ends, a node of our domain takes the name of the value and its place in the graph.
    2. A norm without scale gets a scalar scale of one, shared by all of them.
    3. SkipSimplifiedLayerNormalization is expanded first.
    4. Where a norm of a half type ends in float32, and no float32 x is there to start from, x is cast first.
    5. Nodes and initialisers that only the norm read are removed; what something else reads stays.

    The main graph, the bodies inside it, and local functions are treated alike. Function bodies are not attached.
    """

    def __init__(
        self,
        facts: Facts | None = None,
        *,
        allow_gain: bool = False,
        prove: bool = False,
        skip: Callable[[ir.Node, Facts], bool] = lambda node, facts: False,  # noqa: ARG005
    ) -> None:
        """What to fuse, and how.

        Args:
            facts: of the model, where several passes share them; they are looked up anew if none are given.
            allow_gain: also fuse norms whose statistics the model rounds to a half type.
            prove: run each norm before it is replaced, and leave it if the op gives other numbers.
            skip: which nodes anchor nothing.
        """
        super().__init__()
        self.facts = facts
        self.allow_gain = allow_gain
        self.prove = prove
        self.skip = skip

    def call(self, model: ir.Model) -> FuseRMSNormResult:
        """Fuse in place."""
        facts = self.facts or Facts(model)
        refusals: list[Refusal] = []
        modified = ExpandSkipNorm(facts, self.skip)(model).modified  # case 3
        prover = SiteProver(facts) if self.prove else None
        for graph in list(graphs_of(model)):
            for anchor in tuple(graph):
                if anchor.graph is None or self.skip(anchor, facts):  # or it went away with a norm before it
                    continue
                findings = search(anchor, facts, allow_gain=self.allow_gain)
                refusals += findings.refusals
                replaced: dict[ir.Value, ir.Value] = {}
                proofs = [_proof(found, facts, prover) for found in findings.norms]
                for found, proof in zip(findings.norms, proofs, strict=True):
                    if not proof.passed:
                        refusals.append(Refusal("verify", anchor, proof.why_not))
                        continue
                    replaced[found.value] = _replace(found, model, facts, replaced, proof)
                    modified = True
        return FuseRMSNormResult(model, modified, tuple(refusals))


def _proof(found: Derivation, facts: Facts, prover: SiteProver | None) -> Proof:
    if prover is None:
        return Proof(None)
    if found.anchor.op_type in NATIVE_OPS:
        return Proof(None, "one op of a known definition")
    return prover(found, emission(found, facts))


def _replace(
    found: Derivation, model: ir.Model, facts: Facts, replaced: Mapping[ir.Value, ir.Value], proof: Proof
) -> ir.Value:
    """Put the op where the norm ends; `replaced` are the ends of other norms with the same anchor."""
    last = found.value.producer()
    assert last is not None
    assert last.graph is not None
    graph = last.graph
    op = emission(found, facts)
    x = op.x
    if op.needs_cast(facts):  # case 4
        x = _cast(x, op.dtype, last)
    scale = unit_scale(model, graph, last) if op.scale is None else replaced.get(op.scale, op.scale)  # case 2
    if op.scale_needs_cast(facts):
        scale = _cast(scale, ir.DataType.FLOAT, last)
    if found.scale_shape is not None:
        scale = _expand(scale, found.scale_shape, last)
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
    node.meta[PROOF] = proof
    if found.gain is not None:
        node.meta[NOTE] = f"precision gained: {found.gain.reason}"
    graph.insert_after(last, node)
    found.value.replace_all_uses_with(output, replace_graph_outputs=True)
    graph.opset_imports[DOMAIN] = VERSION
    remove_if_dead(last)  # case 5
    return output


def _cast(value: ir.Value, to: ir.DataType, before: ir.Node) -> ir.Value:
    cast = ir.node("Cast", [value], {"to": to})
    cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(to), value.shape
    assert before.graph is not None
    before.graph.insert_before(before, cast)
    return cast.outputs[0]


def _expand(value: ir.Value, shape: tuple[int, ...], before: ir.Node) -> ir.Value:
    target = ir.node("Constant", [], {"value": ir.tensor(np.asarray(shape, np.int64))})
    expand = ir.node("Expand", [value, target.outputs[0]])
    expand.outputs[0].type, expand.outputs[0].shape = value.type, ir.Shape(shape)
    assert before.graph is not None
    before.graph.insert_before(before, [target, expand])
    return expand.outputs[0]
