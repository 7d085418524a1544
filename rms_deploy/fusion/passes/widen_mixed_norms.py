"""Norms of several element types in one model, where the opset has no operator that a shared body could use."""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.fusion.passes.bare_norm import bare_norm
from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.norm_parts import rounds_first
from rms_deploy.fusion.passes.rewriting import annotate, successor
from rms_deploy.fusion.passes.split_gate import split_gate
from rms_deploy.fusion.passes.split_sum import split_sum
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.contract import OPS
from rms_deploy.ops.element_types import HALF
from rms_deploy.ops.function_body import CAST_LIKE_OPSET
from rms_deploy.ops.nodes import norm_nodes, scale_of, shaped_inputs

__all__ = ["WidenMixedNorms"]


class WidenMixedNorms(ir.passes.InPlacePass):
    """Below opset 15, in a model whose norms have several element types, put those of half types into float32.

    1. X is cast to float32, the op works in float32, and its result is cast to the type of X: what the op does by
       itself, so that no number changes.
    2. Where the result is rounded before it is scaled, the op has a scale of one, and a Mul in the half type follows.
    3. Z is cast to float32 too. Where a norm is rounded before its gate, the gate is split off first.
    4. A sum, a shift, and quantisation are split off first.
    5. The same is done where norms of one half type have sums of several types.

    The ops that round 1 / rms have bodies of their own, and stay: float32 could not say what they do.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Widen in place."""
        opset = model.opset_imports[""]
        nodes = list(norm_nodes(model)) if opset < CAST_LIKE_OPSET else []
        nodes = [node for node in nodes if not OPS[node.op_type].is_reciprocal]
        types = {None if node.inputs[0] is None else node.inputs[0].dtype for node in nodes}
        if not nodes or None in types:
            return ir.passes.PassResult(model, False)
        facts = Facts(model)
        if len(types) < 2 and not _has_several_sums(nodes, facts):
            return ir.passes.PassResult(model, False)
        into = NewNodes(model)
        for node in nodes:
            if _is_half(node):
                for value in node.inputs:
                    if value is not None:
                        annotate(value, facts)
                norm = _without_parts(node, into, opset)
                if _is_half(norm):
                    _widen(norm, into, facts)
        return ir.passes.PassResult(model, True)


def _is_half(node: ir.Node) -> bool:
    return node.inputs[0] is not None and node.inputs[0].dtype in HALF


def _has_several_sums(nodes: list[ir.Node], facts: Facts) -> bool:
    """Whether nodes that share a body have sums of several types."""
    types: dict[str, set[ir.DataType | None]] = {}
    for node in nodes:
        op, residual = OPS[node.op_type].without_quantization, node.inputs[1]
        if op.is_add and residual is not None:
            types.setdefault(op.name, set()).add(facts.dtype(residual))
    return any(len(found) > 1 for found in types.values())


def _without_parts(node: ir.Node, into: NewNodes, opset: int) -> ir.Node:
    """Cases 3 and 4."""
    if OPS[node.op_type].is_gated:
        is_split = rounds_first(node) and bool(OPS[node.op_type].epilogue)
        return split_gate(node, into) if is_split else node
    norm = bare_norm(node, into, opset)
    return split_sum(norm, into) if OPS[norm.op_type].is_add else norm


def _widen(node: ir.Node, into: NewNodes, facts: Facts) -> None:
    x, scale, graph = node.inputs[0], scale_of(node), node.graph
    assert x is not None
    assert scale is not None
    assert graph is not None
    half = x.dtype
    assert half is not None
    new: list[ir.Node] = []

    def add(op_type: str, inputs: list[ir.Value], dtype: ir.DataType, **attributes: int) -> ir.Value:
        made = ir.node(op_type, inputs, attributes)
        made.metadata_props.update(node.metadata_props)
        made.outputs[0].type, made.outputs[0].shape = ir.TensorType(dtype), inputs[0].shape
        new.append(made)
        return made.outputs[0]

    def cast(value: ir.Value, to: ir.DataType) -> ir.Value:
        return value if facts.dtype(value) == to else add("Cast", [value], to, to=to)

    given = [value for value in shaped_inputs(node) if value is not None]
    wide, *gates = [add("Cast", [value], ir.DataType.FLOAT, to=ir.DataType.FLOAT) for value in given]
    is_rounded = rounds_first(node)
    one_or_scale = into.unit_scale(node) if is_rounded else cast(scale, ir.DataType.FLOAT)
    attributes = [attribute for name, attribute in node.attributes.items() if name != "scale_type"]
    in_float32 = ir.Value(type=ir.TensorType(ir.DataType.FLOAT), shape=wide.shape)
    op = ir.Node(
        node.domain,
        node.op_type,
        [wide, *gates, one_or_scale],
        attributes,
        outputs=[in_float32],
        name=node.name,
        doc_string=node.doc_string,
        metadata_props=dict(node.metadata_props),
    )
    op.meta.update(node.meta)
    new.append(op)
    y = add("Cast", [in_float32], half, to=half)  # case 1
    if is_rounded:  # case 2
        y = add("Mul", [y, cast(scale, half)], half)
    graph.insert_after(node, new)
    _take_over(node.outputs[0], y, facts)
    graph.remove(node, safe=True)
    into.names.settle(new, keep=[op, y])


def _take_over(old: ir.Value, new: ir.Value, facts: Facts) -> None:
    """`new` in the place of `old`, with its name and notes."""
    like = successor(old, facts)
    new.name, new.type, new.shape, new.doc_string = like.name, like.type, like.shape, like.doc_string
    new.metadata_props.update(like.metadata_props)
    new.meta.update(like.meta)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
