"""A residual Add and the RMSNorm of its sum as one op."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from rms_deploy.fusion.norm import NOTE, PROOF
from rms_deploy.fusion.passes.rewriting import annotate, remove_if_dead, successor
from rms_deploy.fusion.proof.prove import Proof
from rms_deploy.fusion.proof.prove_pass import PassProver
from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.nodes import graphs_of

__all__ = ["FuseAddRMSNorm", "FuseAddRMSNormResult"]


@dataclass
class FuseAddRMSNormResult(ir.passes.PassResult):
    """The model, and whether all was known that decides."""

    is_decided: bool
    """False: an Add stayed because the shapes of its operands are not known."""


class FuseAddRMSNorm(ir.passes.InPlacePass):
    """RMSNorm(Add(x, r)) becomes AddRMSNorm(x, r), whose second output is the sum.

    1. Both operands must be proven to have one shape: a broadcast residual, such as a bias, stays an Add.
    2. The sum keeps its name, and whatever else reads it reads the op's second output.
    3. The statistics use the sum rounded to its type. So the Add must give the very X of the norm; a norm of a wider
       sum is a norm of float32, and stays one.
    4. The op stands where the Add stood. If its scale is computed later, it stands where the norm stood, provided that
       nothing before reads the sum.
    5. Of several norms of one sum, the first takes the Add.
    6. With `prove`, each is run in both forms first. Where they differ, the Add and the norm stay, and a note says why.
    """

    def __init__(self, facts: Facts | None = None, *, prove: bool = False) -> None:
        """`facts` of the model, where several passes share them, and whether to run what is fused."""
        super().__init__()
        self.facts = facts
        self.prove = prove

    def call(self, model: ir.Model) -> FuseAddRMSNormResult:
        """Fuse in place."""
        facts = self.facts or Facts(model)
        modified, is_decided = False, True
        prover = PassProver(FuseAddRMSNorm(), facts) if self.prove else None
        for graph in list(graphs_of(model)):
            nodes = tuple(graph)
            position = {node: index for index, node in enumerate(nodes)}
            for norm in nodes:
                add = _add_of(norm)
                if add is not None and not _is_residual(add, facts):
                    is_decided = is_decided and _is_known(add, facts)
                    continue
                place = None if add is None else _place(add, norm, position)
                if add is not None and place is not None and _holds(add, norm, prover):
                    position[_replace(add, norm, place, facts)] = position[place]
                    modified = True
        return FuseAddRMSNormResult(model, modified, is_decided)


def _holds(add: ir.Node, norm: ir.Node, prover: PassProver | None) -> bool:
    """Case 6: whether both forms agree, or are not run; a note on the norm says where they do not."""
    if prover is None:
        return True
    proof = prover([add, norm], [norm.outputs[0], add.outputs[0]])
    if not proof.passed:
        notes = (norm.meta.get(NOTE), f"its Add stays: {proof.why_not}")
        norm.meta[NOTE] = "; ".join(note for note in notes if note)
        return False
    before: Proof | None = norm.meta.get(PROOF)
    norm.meta[PROOF] = proof if before is None else before.then(proof)
    return True


def _add_of(norm: ir.Node) -> ir.Node | None:
    """The Add that makes the X of an RMSNorm."""
    if norm.domain != DOMAIN or norm.op_type != "RMSNorm" or norm.inputs[0] is None:
        return None
    add = norm.inputs[0].producer()
    if add is None or not is_op(add, "Add") or add.graph is not norm.graph or None in add.inputs:
        return None
    return add


def _is_residual(add: ir.Node, facts: Facts) -> bool:
    a, b = add.inputs
    return a is not None and b is not None and facts.are_alike(a, b)


def _is_known(add: ir.Node, facts: Facts) -> bool:
    shapes = [facts.shape(value) for value in add.inputs if value is not None]
    return all(shape is not None and None not in shape for shape in shapes)


def _place(add: ir.Node, norm: ir.Node, position: dict[ir.Node, int]) -> ir.Node | None:
    """After which node the op can stand (case 4)."""
    scale = norm.inputs[1]
    source = None if scale is None else scale.producer()
    if source is None or source.graph is not norm.graph or position[source] < position[add]:
        return add
    readers = (reader for reader in add.outputs[0].consumers() if reader is not norm)
    if all(reader.graph is norm.graph and position[reader] > position[norm] for reader in readers):
        return norm
    return None


def _replace(add: ir.Node, norm: ir.Node, place: ir.Node, facts: Facts) -> ir.Node:
    assert norm.graph is not None
    old_y, old_sum = norm.outputs[0], add.outputs[0]
    y, total = successor(old_y, facts), successor(old_sum, facts)
    for value in add.inputs:
        assert value is not None
        annotate(value, facts)
    node = ir.Node(
        DOMAIN,
        "AddRMSNorm",
        [*add.inputs, norm.inputs[1]],
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
