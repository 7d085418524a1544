"""A norm and its shift as one op."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from rms_deploy.fusion.grammar.shift import Shift, shift_of
from rms_deploy.fusion.passes.expand_scale import expanded
from rms_deploy.fusion.passes.fuse_part import FusePart, FuseResult
from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.rewriting import annotate, place_of, read_shape_of, remove_if_dead, successor
from rms_deploy.fusion.proof.prove_pass import PassProver, keep_proof
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.nodes import graphs_of, label, shaped_inputs

__all__ = ["FuseShift", "why_no_shift"]

_WHY_NOT: Final = "rms_deploy.shift"
"""Key of a norm's `meta`: why running it kept its shift outside."""


class FuseShift(FusePart):
    """RMSNorm(x) + shift becomes RMSNormShift(x), and that of AddRMSNorm becomes AddRMSNormShift.

    1. `grammar/shift.py` says which shifts the ops have.
    2. The op stands where the norm stood, or where the Add stood if its scale or its shift is computed later. Where
       something between reads the sum of an AddRMSNorm, what computes them is moved before the norm.
    3. A scale or a shift that is broadcast to the other is expanded to its shape. A scale of another type is cast to
       that of the shift.
    4. With `prove`, each is run in both forms first. Where they differ, the shift stays outside.
    """

    def call(self, model: ir.Model) -> FuseResult:
        """Fuse in place."""
        facts, into, is_decided = self.facts or Facts(model), None, True
        prover = self.prover(facts)
        for graph in list(graphs_of(model)):
            nodes = tuple(graph)
            position: dict[ir.Node, float] = {node: index for index, node in enumerate(nodes)}
            for norm in nodes:
                found = shift_of(norm, facts)
                is_decided = is_decided and not isinstance(found, str)
                if not isinstance(found, Shift):
                    continue
                for value, shape in zip((found.scale, found.shift), found.shapes, strict=True):
                    facts.note(value, shape)
                    facts.note(facts.origin(value), shape)
                place = place_of(norm, found.add, (found.scale, found.shift), norm.outputs[1:], position)
                if place is not None and _holds(found, facts, prover):
                    into = into or NewNodes(model)
                    index = position[place]
                    position.update(dict.fromkeys(_replace(found, place, into, facts), index))
        return FuseResult(model, into is not None, is_decided)


def why_no_shift(norm: ir.Node, facts: Facts) -> str | None:
    """Why what looks like the shift of `norm` stays outside; None: there is none, or it need not."""
    found = shift_of(norm, facts)
    if isinstance(found, Shift):
        why_not = norm.meta.get(_WHY_NOT, "the sum of the norm is read before the shift is computed, or for it")
        return f"the shift {label(found.add)} stays: {why_not}"
    return found


def _holds(found: Shift, facts: Facts, prover: PassProver | None) -> bool:
    """Case 4: whether both forms agree, or are not run."""
    if prover is None:
        return True
    norm = found.norm
    given = {facts.origin(value) for value in (*_tensors(found), found.scale, found.shift)}
    proof = prover.between(given, [found.end, *norm.outputs[1:]], x=facts.origin(found.x), norm=norm)
    return keep_proof(norm, proof, _WHY_NOT)


def _tensors(found: Shift) -> list[ir.Value]:
    """What is normalised: x, and the residual of an AddRMSNorm."""
    return [found.x, *(value for value in shaped_inputs(found.norm)[1:] if value is not None)]


def _replace(found: Shift, place: ir.Node, into: NewNodes, facts: Facts) -> list[ir.Node]:
    """Put the op behind `place`; the new nodes."""
    norm, graph = found.norm, found.norm.graph
    assert graph is not None
    for value in (*_tensors(found), found.scale, found.shift):
        annotate(value, facts)
    scale, shift, fitting = _fitted(found, facts)
    if fitting:
        into.before(place, *fitting)
    y = successor(found.end, facts)
    sums = [(old, successor(old, facts)) for old in norm.outputs[1:]]
    node = ir.Node(
        DOMAIN,
        found.op.name,
        [*_tensors(found), scale, shift],
        [attribute for name, attribute in norm.attributes.items() if name != "scale_type"],
        outputs=[y, *(new for _, new in sums)],
        name=norm.name,
        doc_string=norm.doc_string,
        metadata_props=dict(norm.metadata_props),
    )
    if found.scale_type != ir.DataType.FLOAT or "scale_type" in norm.attributes:
        node.attributes["scale_type"] = ir.AttrInt64("scale_type", found.scale_type)
    node.meta.update(norm.meta)
    graph.insert_after(place, node)
    for old, new in sums:
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    for value in (norm.outputs[0], found.scaled):
        read_shape_of(found.x, value)
    found.end.replace_all_uses_with(y, replace_graph_outputs=True)
    last = found.end.producer()
    assert last is not None
    remove_if_dead(last)
    return [*fitting, node]


def _fitted(found: Shift, facts: Facts) -> tuple[ir.Value, ir.Value, list[ir.Node]]:
    """Scale and shift in one shape and one type, and the nodes that bring them to it."""
    scale, shift = found.scale, found.shift
    nodes: list[ir.Node] = []
    if found.widened is scale:
        scale = _widened(scale, shift, nodes, facts)
    elif found.widened is shift:
        shift = _widened(shift, scale, nodes, facts)
    dtype = facts.dtype(shift)
    if dtype is not None and facts.dtype(scale) != dtype:
        nodes.append(ir.node("Cast", [scale], {"to": dtype}))
        nodes[-1].outputs[0].type = ir.TensorType(dtype)
        facts.add(nodes[-1].outputs[0], like=scale)
        scale = nodes[-1].outputs[0]
    return scale, shift, nodes


def _widened(value: ir.Value, like: ir.Value, nodes: list[ir.Node], facts: Facts) -> ir.Value:
    """`value` in the shape of `like`, by `nodes`."""
    shape, dtype = facts.shape(like), facts.dtype(value)
    dims = tuple(dim for dim in shape or () if isinstance(dim, int))
    if shape is not None and dtype is not None and len(dims) == len(shape):
        nodes += expanded(value, dtype, dims, facts.model.opset_imports.get("", 0))
    else:
        target = ir.node("Shape", [like])
        nodes += [target, ir.node("Expand", [value, target.outputs[0]])]
    wide = nodes[-1].outputs[0]
    wide.type = value.type
    facts.add(wide, like=like)
    return wide
