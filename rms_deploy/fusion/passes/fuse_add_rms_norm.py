"""A residual Add and the RMSNorm of its sum as one op."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from rms_deploy.fusion.grammar.chain import sum_of
from rms_deploy.fusion.one_shape import why_not_one_shape
from rms_deploy.fusion.passes.fuse_part import FusePart, FuseResult
from rms_deploy.fusion.passes.rewriting import annotate, place_of, remove_if_dead, successor
from rms_deploy.fusion.proof.prove_pass import PassProver, keep_proof
from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.ops.contract import DOMAIN, OPS
from rms_deploy.ops.nodes import graphs_of, label

__all__ = ["FuseAddRMSNorm", "add_of", "why_not_merged"]

_MERGED: Final = {
    op.name: with_sum.name
    for op in OPS.values()
    if (with_sum := OPS.get(f"Add{op.name}")) is not None and not op.is_add
}
"""Our op of a sum, by that of one tensor."""

_WHY_NOT: Final = "rms_deploy.residual"
"""Key of a norm's `meta`: why running it kept its Add outside."""


class FuseAddRMSNorm(FusePart):
    """RMSNorm(Add(x, r)) becomes AddRMSNorm(x, r), whose second output is the sum; with a shift, AddRMSNormShift.

    1. Both operands must be proven to have one shape: a broadcast residual, such as a bias, stays an Add.
    2. The sum keeps its name, and whatever else reads it reads the op's second output.
    3. The statistics use the sum rounded to its type. So the Add must give the very X of the norm; a norm of a wider
       sum is a norm of float32, and stays one.
    4. The op stands where the Add stood, or where the norm stood if its scale is computed later. Where something
       between reads the sum, what computes the scale is moved before the Add.
    5. Of several norms of one sum, the first takes the Add.
    6. With `prove`, each is run in both forms first. Where they differ, the Add and the norm stay.
    7. A Sum of two is an Add.
    """

    def call(self, model: ir.Model) -> FuseResult:
        """Fuse in place."""
        facts = self.facts or Facts(model)
        modified, is_decided = False, True
        prover = self.prover(facts)
        for graph in list(graphs_of(model)):
            nodes = tuple(graph)
            position: dict[ir.Node, float] = {node: index for index, node in enumerate(nodes)}
            for norm in nodes:
                add = add_of(norm)
                if add is not None and not _is_residual(add, norm, facts):
                    is_decided = is_decided and why_not_merged(add, norm, facts) is None
                    continue
                place = None if add is None else _place(add, norm, position)
                if add is not None and place is not None and _holds(add, norm, prover):
                    position[_replace(add, norm, place, facts)] = position[place]
                    modified = True
        return FuseResult(model, modified, is_decided)


def _holds(add: ir.Node, norm: ir.Node, prover: PassProver | None) -> bool:
    """Case 6: whether both forms agree, or are not run."""
    if prover is None:
        return True
    return keep_proof(norm, prover([add, norm], [norm.outputs[0], add.outputs[0]]), _WHY_NOT)


def add_of(norm: ir.Node) -> ir.Node | None:
    """The Add that makes the X of an RMSNorm."""
    if norm.domain != DOMAIN or norm.op_type not in _MERGED or norm.inputs[0] is None:
        return None
    return sum_of(norm.inputs[0])


def why_not_merged(add: ir.Node, norm: ir.Node, facts: Facts) -> str | None:
    """Why `add`, whose sum `norm` normalises, stays outside; None where it is no residual: a bias, a broadcast."""
    a, b = add.inputs
    assert a is not None
    assert b is not None
    if any(is_op(value.producer(), "Constant") or value.const_value is not None for value in (a, b)):
        return None
    if add.graph is not norm.graph:
        return f"the Add {label(add)} is in another graph"
    if _WHY_NOT in norm.meta:
        return f"the Add {label(add)} stays: {norm.meta[_WHY_NOT]}"
    if facts.are_alike(a, b):
        return f"the Add {label(add)} stays: its sum is read before the scale of the norm is computed, or for it"
    unproven = why_not_one_shape(a, b, facts)
    return unproven and f"the Add {label(add)} stays: {unproven}"


def _is_residual(add: ir.Node, norm: ir.Node, facts: Facts) -> bool:
    if add.graph is not norm.graph:
        return False
    a, b = add.inputs
    return a is not None and b is not None and facts.are_alike(a, b)


def _place(add: ir.Node, norm: ir.Node, position: dict[ir.Node, float]) -> ir.Node | None:
    """After which node the op can stand (case 4)."""
    return place_of(add, norm, norm.inputs[1:], add.outputs, position)


def _replace(add: ir.Node, norm: ir.Node, place: ir.Node, facts: Facts) -> ir.Node:
    assert norm.graph is not None
    old_y, old_sum = norm.outputs[0], add.outputs[0]
    y, total = successor(old_y, facts), successor(old_sum, facts)
    for value in add.inputs:
        assert value is not None
        annotate(value, facts)
    node = ir.Node(
        DOMAIN,
        _MERGED[norm.op_type],
        [*add.inputs, *norm.inputs[1:]],
        list(norm.attributes.values()),
        outputs=[y, total],
        name=norm.name,
        doc_string=norm.doc_string,
        metadata_props=dict(norm.metadata_props),
    )
    node.meta.update(norm.meta)
    norm.graph.insert_after(place, node)
    old_y.replace_all_uses_with(y, replace_graph_outputs=True)
    old_sum.replace_all_uses_with(total, replace_graph_outputs=True)
    remove_if_dead(norm)
    remove_if_dead(add)
    return node
