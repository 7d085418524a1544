"""RMSNorms that are decomposed, or an op of ONNX or ONNX Runtime, as one op of our domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from rms_deploy.fusion.grammar.match import Match
from rms_deploy.fusion.grammar.search import search
from rms_deploy.fusion.near_miss import NearMiss, near_miss
from rms_deploy.fusion.norm import NOTE, PROOF
from rms_deploy.fusion.passes.expand_scale import expanded
from rms_deploy.fusion.passes.expand_skip_norm import ExpandSkipNorm, ExpandSkipNormResult
from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.rewriting import annotate, remove_if_dead, successor
from rms_deploy.fusion.proof.prove import Proof, Prover
from rms_deploy.fusion.replacement import explicit_attributes, replacement_for
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.contract import DOMAIN, OPS, PARTIAL_RMS_NORM, VERSION
from rms_deploy.ops.function_body import CONSTANT_OPSET
from rms_deploy.ops.nodes import graphs_of, norm_nodes

__all__ = ["FuseRMSNorm", "FuseRMSNormResult"]

_CONSTANTS: Final = {
    **{name: value for name, value in PARTIAL_RMS_NORM.defaults().items() if isinstance(value, float)},
    "partial_size": 0,
}
"""Attributes that are constants of a function body, and what a node without them has."""


@dataclass
class FuseRMSNormResult(ir.passes.PassResult):
    """The model, its near misses, the norms that were to be kept, and whether all was known that decides."""

    near_misses: tuple[NearMiss, ...]
    kept: tuple[Match, ...]
    is_decided: bool
    """False: there is a near miss, and the shape of what it normalises is not known."""


class FuseRMSNorm(ir.passes.InPlacePass):
    """Every RMSNorm that the grammar derives becomes one RMSNorm or PartialRMSNorm node, or the twin of one.

    1. Where the norm ends, a node of our domain takes the name of the value and its place in the graph.
    2. A norm without scale gets a scalar scale of one, shared by all of them.
    3. SkipSimplifiedLayerNormalization is expanded first; where its norm is not fused then, it is put back.
    4. Where a norm of a half type ends in float32, and no float32 x is there to start from, x is cast first.
    5. Nodes and initialisers that only the norm read are removed; what something else reads stays.
    6. With `one_body`, norms whose constants are not those of the first norm of their kind are near misses.

    7. What x / rms is multiplied by and the op does not take, because of its shape, is a Mul after it.

    The main graph, the bodies inside it, and local functions are treated alike. Function bodies are not attached.
    """

    def __init__(
        self,
        facts: Facts | None = None,
        *,
        allow_gain: bool = False,
        prove: bool = False,
        one_body: bool = False,
        skip: Callable[[ir.Node, Facts], bool] = lambda node, facts: False,  # noqa: ARG005
        keep: Callable[[Match, Facts], bool] = lambda match, facts: False,  # noqa: ARG005
    ) -> None:
        """What to fuse, and how.

        Args:
            facts: of the model, where several passes share them; they are looked up anew if none are given.
            allow_gain: also fuse norms whose statistics the model rounds to a half type.
            prove: run each norm before it is replaced; it is a near miss if the op gives other numbers.
            one_body: each op gets one body that holds its constants, as below `CONSTANT_OPSET`, so that all norms of
                one kind must have the same.
            skip: the nodes at which no norm is searched for.
            keep: the norms that stay what they are, and are no near misses.
        """
        super().__init__()
        self.facts = facts
        self.allow_gain = allow_gain
        self.prove = prove
        self.one_body = one_body
        self.skip = skip
        self.keep = keep

    def call(self, model: ir.Model) -> FuseRMSNormResult:
        """Fuse in place."""
        facts = self.facts or Facts(model)
        expanded = ExpandSkipNorm(facts, self.skip, prove=self.prove)(model)  # case 3
        assert isinstance(expanded, ExpandSkipNormResult)
        modified, near_misses = False, list(expanded.near_misses)
        prover = Prover(facts) if self.prove else None
        bodies, new = _bodies(model), NewNodes(model)
        kept: list[Match] = []
        is_decided = True
        for graph in list(graphs_of(model)):
            for anchor in tuple(graph):
                if anchor.graph is None or self.skip(anchor, facts):  # or it went away with a norm before it
                    continue
                result = search(anchor, facts, allow_gain=self.allow_gain)
                near_misses += result.near_misses
                is_decided = is_decided and not (result.near_misses and _is_unknown(anchor, facts))
                replaced: dict[ir.Value, ir.Value] = {}
                matches = [match for match in result.matches if not self.keep(match, facts)]
                kept += [match for match in result.matches if match not in matches]
                proofs = [_proof(match, facts, prover) for match in matches]
                for match, proof in zip(matches, proofs, strict=True):
                    miss = _failed(match, proof) or (self.one_body and _other_constants(match, facts, bodies))
                    if miss:
                        near_misses.append(miss)
                        continue
                    replaced[match.value] = _replace(match, new, facts, replaced, proof)
                    modified = True
        for expansion in expanded.expansions:
            if expansion.nodes[-1].graph is not None:
                expansion.undo()
        return FuseRMSNormResult(model, modified, tuple(near_misses), tuple(kept), is_decided)


def _is_unknown(anchor: ir.Node, facts: Facts) -> bool:
    shape = facts.shape(anchor.inputs[0]) if anchor.inputs and anchor.inputs[0] is not None else ()
    return shape is None or None in shape


def _proof(match: Match, facts: Facts, prover: Prover | None) -> Proof:
    if prover is None:
        return Proof(None)
    proof = prover(match, replacement_for(match, facts))
    expanded: Proof | None = match.anchor.meta.get(PROOF)
    return proof if expanded is None else expanded.then(proof)


def _failed(match: Match, proof: Proof) -> NearMiss | None:
    return None if proof.passed else near_miss("verify", match.anchor, proof.why_not)


def _bodies(model: ir.Model) -> dict[str, tuple[float, ...]]:
    """The constants of the norms that are one of our ops already, by kind: sums and gates begin as an RMSNorm."""
    return {
        replace(OPS[node.op_type], prologue="", epilogue="").name: _constants(
            {name: a.value for name, a in node.attributes.items()}
        )
        for node in norm_nodes(model)
    }


def _constants(attributes: Mapping[str, Any]) -> tuple[float, ...]:
    return tuple(float(np.float32(attributes.get(name, default))) for name, default in _CONSTANTS.items())


def _other_constants(match: Match, facts: Facts, bodies: dict[str, tuple[float, ...]]) -> NearMiss | None:
    """Case 6; the first norm of a kind says what the constants are."""
    op = replacement_for(match, facts)
    own = _constants(op.attributes)
    body = bodies.setdefault(op.op_type, own)
    differing = [f"{name} {a:g}, not {b:g}" for name, a, b in zip(_CONSTANTS, own, body, strict=True) if a != b]
    if not differing:
        return None
    reason = f"{differing[0]} as in the norms before it, and below opset {CONSTANT_OPSET} all share one body"
    return near_miss("body", match.anchor, f"{reason}; `functions=False` fuses it, and so does a newer opset")


def _replace(
    match: Match, new: NewNodes, facts: Facts, replaced: Mapping[ir.Value, ir.Value], proof: Proof
) -> ir.Value:
    """Put the op where the norm ends; `replaced` are the ends of other norms with the same anchor."""
    last = match.value.producer()
    assert last is not None
    assert last.graph is not None
    graph = last.graph
    op = replacement_for(match, facts)
    x = op.x
    if op.needs_cast(facts):  # case 4
        x = _cast(x, op.dtype, last, new)
        facts.add(x, like=op.x)
    scale = new.unit_scale(last) if op.scale is None else replaced.get(op.scale, op.scale)  # case 2
    if op.scale_needs_cast(facts):
        cast = _cast(scale, ir.DataType.FLOAT, last, new)
        facts.add(cast, like=scale)
        scale = cast
    if match.scale_shape is not None:
        scale = _expand(scale, match.scale_shape, last, new, facts)
    annotate(x, facts)
    annotate(scale, facts)
    output = successor(match.value, facts)
    y = output if op.factor is None else ir.Value(name=output.name, type=output.type, shape=op.x.shape)
    node = ir.Node(
        DOMAIN,
        op.op_type,
        [x, scale],
        explicit_attributes(op.op_type, op.attributes),
        outputs=[y],
        name=last.name,
        doc_string=last.doc_string,
        metadata_props=dict(last.metadata_props),
    )
    node.meta[PROOF] = proof
    if match.gain is not None:
        node.meta[NOTE] = f"precision gained: {match.gain.reason}"
    graph.insert_after(last, node)
    if op.factor is not None:  # case 7
        facts.add(y, like=op.x)
        product = ir.Node("", "Mul", [y, op.factor], outputs=[output], metadata_props=dict(last.metadata_props))
        product.name = last.name and f"{last.name}/scale"
        graph.insert_after(node, product)
        new.names.settle([node, product], keep=[node, output])
    match.value.replace_all_uses_with(output, replace_graph_outputs=True)
    graph.opset_imports[DOMAIN] = VERSION
    remove_if_dead(last)  # case 5
    return output


def _cast(value: ir.Value, to: ir.DataType, before: ir.Node, new: NewNodes) -> ir.Value:
    cast = ir.node("Cast", [value], {"to": to})
    cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(to), value.shape
    return new.before(before, cast)


def _expand(value: ir.Value, shape: tuple[int, ...], before: ir.Node, new: NewNodes, facts: Facts) -> ir.Value:
    nodes = expanded(value, facts.dtype(value) or ir.DataType.FLOAT, shape, facts.model.opset_imports.get("", 0))
    nodes[-1].outputs[0].type, nodes[-1].outputs[0].shape = value.type, ir.Shape(shape)
    return new.before(before, *nodes)
