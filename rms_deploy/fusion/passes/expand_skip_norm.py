"""ONNX Runtime's SkipSimplifiedLayerNormalization as the additions and the norm that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from rms_deploy.fusion.near_miss import NearMiss, near_miss
from rms_deploy.fusion.norm import PROOF
from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.rewriting import successor
from rms_deploy.fusion.proof.prove import Proof
from rms_deploy.fusion.proof.prove_pass import PassProver
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.names import Names
from rms_deploy.ops.element_types import ELEMENT_NAMES
from rms_deploy.ops.foreign_ops import SIMPLIFIED_LAYER_NORMALIZATION, SKIP_SIMPLIFIED_LAYER_NORMALIZATION, foreign_norm
from rms_deploy.ops.nodes import graphs_of

__all__ = ["ExpandSkipNorm", "ExpandSkipNormResult", "Expansion", "is_skip_norm", "why_not_expanded"]

_EXPANSION: Final = "rms_deploy.expansion"
"""In the `meta` of a norm: the expansion that it is a part of."""


@dataclass(frozen=True)
class Expansion:
    """A node, and what took its place."""

    node: ir.Node
    nodes: tuple[ir.Node, ...]
    """The addition of the bias, if there is one, the addition, and the norm."""

    def settle(self, names: Names) -> None:
        """Give what is new names of its own."""
        *_, add, norm = self.nodes
        has_sum = len(self.node.outputs) > 3 and add.outputs[0].name == self.node.outputs[3].name
        heirs: list[ir.Node | ir.Value] = [norm, *norm.outputs, *(add.outputs if has_sum else ())]
        names.settle(self.nodes, keep=heirs)

    def undo(self) -> None:
        """Put the node back, as it was."""
        *first, add, norm = self.nodes
        assert norm.graph is not None
        skip, bias = (first[0].inputs[0], first[0].inputs[1]) if first else (add.inputs[1], None)
        for index, value in enumerate((add.inputs[0], skip, norm.inputs[1], bias)[: len(self.node.inputs)]):
            self.node.replace_input_with(index, value)
        norm.graph.insert_after(norm, self.node)
        norm.outputs[0].replace_all_uses_with(self.node.outputs[0], replace_graph_outputs=True)
        if len(self.node.outputs) > 3:
            add.outputs[0].replace_all_uses_with(self.node.outputs[3], replace_graph_outputs=True)
        norm.graph.remove(self.nodes, safe=True)


@dataclass
class ExpandSkipNormResult(ir.passes.PassResult):
    """The model, what was expanded, and the near misses."""

    expansions: tuple[Expansion, ...]
    near_misses: tuple[NearMiss, ...]


class ExpandSkipNorm(ir.passes.InPlacePass):
    """SkipSimplifiedLayerNormalization(input, skip, gamma, bias) becomes Add, Add and SimplifiedLayerNormalization.

    1. The sum is input + (skip + bias), as it was before ONNX Runtime fused the bias of a layer and the residual; its
       fourth output is the sum.
    2. A node for which `why_not_expanded` has a reason is a near miss: what it becomes must be a norm that fuses.
    3. With `prove`, each is run in both forms first. Where they differ, it is a near miss.
    """

    def __init__(
        self,
        facts: Facts | None = None,
        skip: Callable[[ir.Node, Facts], bool] = lambda node, facts: False,  # noqa: ARG005
        *,
        prove: bool = False,
    ) -> None:
        """`facts` of the model, where several passes share them, which nodes to skip, and whether to run the rest."""
        super().__init__()
        self.facts = facts
        self.skip = skip
        self.prove = prove

    def call(self, model: ir.Model) -> ExpandSkipNormResult:
        """Expand in place."""
        facts = self.facts or Facts(model)
        expansions: list[Expansion] = []
        near_misses: list[NearMiss] = []
        into = NewNodes(model)
        prover = PassProver(ExpandSkipNorm(), facts) if self.prove else None
        for graph in list(graphs_of(model)):
            for node in tuple(graph):
                if not is_skip_norm(node) or self.skip(node, facts):
                    continue
                why_not = why_not_expanded(node, facts)
                if why_not is not None:
                    near_misses.append(near_miss("foreign", node, why_not))
                    continue
                ends = [value for value in (node.outputs[0], *node.outputs[3:]) if value.name]
                proof = Proof(None) if prover is None else prover([node], ends)
                if not proof.passed:
                    near_misses.append(near_miss("verify", node, proof.why_not))
                    continue
                norm = _expand(node, facts)
                norm.meta[PROOF] = proof
                expansions.append(norm.meta[_EXPANSION])
                expansions[-1].settle(into.names)
        return ExpandSkipNormResult(model, bool(expansions), tuple(expansions), tuple(near_misses))


def is_skip_norm(node: ir.Node) -> bool:
    """Whether `node` is a SkipSimplifiedLayerNormalization."""
    return foreign_norm(node) is SKIP_SIMPLIFIED_LAYER_NORMALIZATION


def why_not_expanded(node: ir.Node, facts: Facts) -> str | None:
    """Why `node` is not the norm of a sum of what the op takes; None where it is."""
    if len(node.inputs) < 3 or any(value is None for value in node.inputs[:3]):
        return "an input is missing"
    x, skip, scale = node.inputs[:3]
    assert x is not None
    assert skip is not None
    assert scale is not None
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:3]):
        return "its mean or its inverse root is used"
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        return "an attribute is a parameter of the function around it"
    dtypes = [facts.dtype(value) for value in node.inputs if value is not None]
    if dtypes[0] not in ELEMENT_NAMES or any(dtype != dtypes[0] for dtype in dtypes):
        return "its inputs are not known to be of one type, float32, float16 or bfloat16"
    if len(facts.shape(scale) or ()) != 1:
        return "the shape of its scale is not known"
    epsilon = node.attributes.get("epsilon")
    return "epsilon is negative" if epsilon is not None and not 0 <= epsilon.as_float() < float("inf") else None


def _expand(node: ir.Node, facts: Facts) -> ir.Node:
    """Put the additions and the norm in the place of `node`, and return the norm."""
    x, skip, scale = node.inputs[:3]
    bias = node.inputs[3] if len(node.inputs) > 3 else None
    assert x is not None
    assert skip is not None
    assert node.graph is not None
    old_y = node.outputs[0]
    old_sum = node.outputs[3] if len(node.outputs) > 3 and node.outputs[3].name else None
    dtype = facts.dtype(x)
    assert dtype is not None
    new = [] if bias is None else [_add(skip, bias, dtype, f"{node.name}/bias", facts)]
    new.append(_add(x, new[0].outputs[0] if new else skip, dtype, f"{node.name}/add", facts))
    for add in new:
        assert add.inputs[0] is not None
        facts.add(add.outputs[0], like=add.inputs[0])
    total = new[-1].outputs[0]
    if old_sum is not None:
        _take_over(old_sum, total)
    epsilon = node.attributes.get("epsilon")
    attributes = {
        "epsilon": SKIP_SIMPLIFIED_LAYER_NORMALIZATION.epsilon if epsilon is None else epsilon.as_float(),
        "axis": -1,
    }
    y = successor(old_y, facts)
    y.shape = y.shape or total.shape
    new.append(
        ir.Node(
            "",
            SIMPLIFIED_LAYER_NORMALIZATION.op_type,
            [total, scale],
            ir.convenience.convert_attributes(attributes),
            outputs=[y],
            name=node.name,
            doc_string=node.doc_string,
        )
    )
    for made in new:
        made.metadata_props.update(node.metadata_props)
    node.graph.insert_after(node, new)
    old_y.replace_all_uses_with(y, replace_graph_outputs=True)
    if old_sum is not None:
        old_sum.replace_all_uses_with(total, replace_graph_outputs=True)
    node.graph.remove(node, safe=True)
    new[-1].meta[_EXPANSION] = Expansion(node, tuple(new))
    return new[-1]


def _take_over(old: ir.Value, new: ir.Value) -> None:
    new.name, new.shape, new.doc_string = old.name, old.shape or new.shape, old.doc_string
    new.metadata_props.update(old.metadata_props)
    new.meta.update(old.meta)


def _add(a: ir.Value, b: ir.Value, dtype: ir.DataType, name: str, facts: Facts) -> ir.Node:
    """a + b, of the shape of a; onnx does not infer it where an op of ONNX Runtime made a."""
    node = ir.node("Add", [a, b], name=name)
    node.outputs[0].type, node.outputs[0].shape = ir.TensorType(dtype), a.shape
    shape = facts.shape(a)
    if a.shape is None and shape is not None:
        node.outputs[0].shape = ir.Shape(shape)
    return node
