"""A norm and its gate as one op."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from rms_deploy.fusion.grammar.gate import Gate, gate_of
from rms_deploy.fusion.passes.expand_scale import integers
from rms_deploy.fusion.passes.fuse_part import FusePart, FuseResult
from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.rewriting import annotate, remove_if_dead, successor
from rms_deploy.fusion.proof.prove_pass import PassProver, keep_proof
from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.nodes import graphs_of, label

__all__ = ["FuseGate", "why_no_gate"]

_WHY_NOT: Final = "rms_deploy.gate"
"""Key of a norm's `meta`: why running it kept its gate outside."""


class FuseGate(FusePart):
    """RMSNorm(x) * silu(z) becomes RMSNormSiluGate(x, z), and RMSNorm(x * silu(z)) becomes SiluGateRMSNorm(x, z).

    RMSNorm(x) * sigmoid(z) becomes RMSNormSigmoidGate(x, z).

    1. What the op rounds, and where, is what the model rounds; `grammar/gate.py` says which spellings are taken.
    2. The op stands where the last node of the subgraph stood. silu(z) stays if something else reads it.
    3. What reads the shape of a value that goes away reads that of x, which is there before the norm is.
    4. Reshapes around the norm stand around the op; the scale becomes a row for each group.
    5. With `prove`, each is run in both forms first. Where they differ, the gate stays outside.

    AddRMSNorm, the partial norm and those that round 1 / rms have no form with a gate.
    """

    def call(self, model: ir.Model) -> FuseResult:
        """Fuse in place."""
        facts, into = self.facts or Facts(model, thorough=True), None
        is_decided = True
        prover = self.prover(facts)
        for graph in list(graphs_of(model)):
            for norm in tuple(graph):
                gate = gate_of(norm, facts)
                is_decided = is_decided and not isinstance(gate, str)
                if not isinstance(gate, Gate):
                    continue
                _note(gate, facts)
                if _holds(gate, facts, prover):
                    into = into or NewNodes(model)
                    _replace(gate, into, facts)
        return FuseResult(model, into is not None, is_decided)


def why_no_gate(norm: ir.Node, facts: Facts) -> str | None:
    """Why what looks like the gate of `norm` stays outside; None: there is none, or it need not."""
    gate = gate_of(norm, facts)
    if isinstance(gate, Gate):
        return f"the gate {label(gate.product)} stays: {norm.meta[_WHY_NOT]}" if _WHY_NOT in norm.meta else None
    return gate


def _note(gate: Gate, facts: Facts) -> None:
    """Let others know the shapes that the gate relies on."""
    for value in (gate.x, gate.z):
        facts.note(value, gate.row_shape)
    if gate.view is not None:
        for value in (gate.view.outputs[0], gate.norm.outputs[0]):
            facts.note(value, gate.shape)
    if gate.back is not None:
        facts.note(gate.back.outputs[0], gate.end_shape)


def _holds(gate: Gate, facts: Facts, prover: PassProver | None) -> bool:
    """Case 5: whether both forms agree, or are not run."""
    if prover is None:
        return True
    norm, given = gate.norm, {facts.origin(value) for value in (gate.x, gate.z, gate.scale)}
    return keep_proof(norm, prover.between(given, [gate.end], x=facts.origin(gate.x), norm=norm), _WHY_NOT)


def _replace(gate: Gate, into: NewNodes, facts: Facts) -> None:
    norm, last, graph = gate.norm, gate.end.producer(), gate.norm.graph
    assert graph is not None
    assert last is not None
    for value in (gate.x, gate.z, gate.scale):
        annotate(value, facts)
    x, z = (_viewed(value, gate, into, facts) for value in (gate.x, gate.z))
    scale = _scale(gate, into, facts)
    output = successor(gate.end, facts)
    back = gate.back if gate.is_grouped else None
    y = output if back is None else ir.Value(type=output.type)
    facts.add(y, like=output if back is None else norm.outputs[0])
    node = ir.Node(
        DOMAIN,
        gate.op.name,
        [x, z, scale],
        [attribute for name, attribute in norm.attributes.items() if name != "scale_type"],
        outputs=[y],
        name=norm.name,
        doc_string=norm.doc_string,
        metadata_props=dict(norm.metadata_props),
    )
    if gate.scale_type != ir.DataType.FLOAT or "scale_type" in norm.attributes:
        node.attributes["scale_type"] = ir.AttrInt64("scale_type", gate.scale_type)
    node.meta.update(norm.meta)
    new = [node] if back is None else [node, _like(back, y, output)]
    graph.insert_after(last, new)
    if back is not None:
        into.names.settle(new, keep=[node, output])
    gate.end.replace_all_uses_with(output, replace_graph_outputs=True)
    for reader, index in tuple(gate.sized.uses()):  # case 3
        if is_op(reader, "Shape", "Size"):
            reader.replace_input_with(index, gate.x)
    remove_if_dead(last)


def _viewed(value: ir.Value, gate: Gate, into: NewNodes, facts: Facts) -> ir.Value:
    """`value` after the Reshape that the model has between the gate and the norm."""
    last = gate.end.producer()
    assert last is not None
    if gate.view is None or not gate.is_grouped:
        return value
    view = _like(gate.view, value, ir.Value(type=value.type))
    facts.add(view.outputs[0], like=gate.view.outputs[0])
    return into.before(last, view)


def _like(reshape: ir.Node, value: ir.Value, output: ir.Value) -> ir.Node:
    """`reshape`, of another value."""
    return ir.Node(
        "",
        "Reshape",
        [value, reshape.inputs[1]],
        list(reshape.attributes.values()),
        outputs=[output],
        metadata_props=dict(reshape.metadata_props),
    )


def _scale(gate: Gate, into: NewNodes, facts: Facts) -> ir.Value:
    """The scale with a row for each group."""
    last = gate.end.producer()
    assert last is not None
    if not gate.scale_shape or not gate.is_grouped:
        return gate.scale
    target = integers(gate.scale_shape, facts.model.opset_imports.get("", 0))
    rows = ir.node("Reshape", [gate.scale, target[-1].outputs[0]])
    rows.outputs[0].type, rows.outputs[0].shape = gate.scale.type, ir.Shape(gate.scale_shape)
    return into.before(last, *target, rows)
