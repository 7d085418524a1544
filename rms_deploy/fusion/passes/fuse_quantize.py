"""A norm and the quantisation of its result as one op."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from rms_deploy.fusion.grammar.quantize import Quantization, quantization_of
from rms_deploy.fusion.passes.fuse_part import FusePart, FuseResult
from rms_deploy.fusion.passes.rewriting import annotate, read_shape_of, remove_if_dead, successor
from rms_deploy.fusion.proof.prove_pass import PassProver, keep_proof
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.nodes import graphs_of, label

__all__ = ["FuseQuantize", "why_not_quantized"]

_WHY_NOT: Final = "rms_deploy.quantize"
"""Key of a norm's `meta`: why running it kept its quantisation outside."""


class FuseQuantize(FusePart):
    """QuantizeLinear(RMSNorm(x)) becomes RMSNormQuantize(x), and that of AddRMSNorm becomes AddRMSNormQuantize.

    1. `grammar/quantize.py` says which quantisations the ops have.
    2. Nodes that quantise one result alike become one op, whose output all their readers read.
    3. The op stands where the norm stood. What reads the shape of the norm's result reads that of x.
    4. With `prove`, each is run in both forms first. Where a code differs, the quantisation stays outside.
    """

    def call(self, model: ir.Model) -> FuseResult:
        """Fuse in place."""
        facts, modified = self.facts or Facts(model), False
        prover = self.prover(facts)
        for graph in list(graphs_of(model)):
            for norm in tuple(graph):
                found = quantization_of(norm, facts)
                if isinstance(found, Quantization) and _holds(found, prover):
                    _replace(found, facts)
                    modified = True
        return FuseResult(model, modified, True)


def why_not_quantized(norm: ir.Node, facts: Facts) -> str | None:
    """Why what quantises `norm` stays outside; None: nothing does, or it need not."""
    found = quantization_of(norm, facts)
    if isinstance(found, Quantization):
        return f"{label(found.nodes[0])} stays: {norm.meta[_WHY_NOT]}" if _WHY_NOT in norm.meta else None
    return found


def _holds(found: Quantization, prover: PassProver | None) -> bool:
    """Case 4: whether both forms agree, or are not run."""
    if prover is None:
        return True
    norm = found.norm
    x, outputs = norm.inputs[0], [found.nodes[0].outputs[0], *norm.outputs[1:]]
    assert x is not None
    given = {value for value in norm.inputs if value is not None}
    return keep_proof(norm, prover.between(given, outputs, x=x, norm=norm), _WHY_NOT)


def _replace(found: Quantization, facts: Facts) -> None:
    norm, graph = found.norm, found.norm.graph
    assert graph is not None
    for value in norm.inputs:
        assert value is not None
        annotate(value, facts)
    first, *others = found.nodes
    y = successor(first.outputs[0], facts)
    y.type = ir.TensorType(found.output_dtype)
    sums = [(old, successor(old, facts)) for old in norm.outputs[1:]]
    node = ir.Node(
        DOMAIN,
        found.op.name,
        list(norm.inputs),
        [
            *norm.attributes.values(),
            ir.AttrFloat32("y_scale", found.y_scale),
            ir.AttrInt64("output_dtype", found.output_dtype),
        ],
        outputs=[y, *(new for _, new in sums)],
        name=norm.name,
        doc_string=norm.doc_string,
        metadata_props=dict(norm.metadata_props),
    )
    if found.precision != ir.DataType.FLOAT:
        node.attributes["precision"] = ir.AttrInt64("precision", found.precision)
    node.meta.update(norm.meta)
    graph.insert_after(norm, node)
    for old, new in sums:
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    x = norm.inputs[0]
    assert x is not None
    read_shape_of(x, norm.outputs[0])
    for quantizer in (first, *others):
        quantizer.outputs[0].replace_all_uses_with(y, replace_graph_outputs=True)
        remove_if_dead(quantizer)
