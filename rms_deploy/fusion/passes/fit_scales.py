"""The scales of norms whose function bodies ONNX Runtime would fuse wrongly."""

from __future__ import annotations

import math

import onnx_ir as ir

from rms_deploy.fusion.passes.expand_scale import expanded, integers
from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.rewriting import annotate
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.contract import OPS
from rms_deploy.ops.misread_scale import MISREAD, misread
from rms_deploy.ops.nodes import axes_of, norm_nodes, scale_of, shaped_inputs

__all__ = ["FitScales", "may_be_misread"]


class FitScales(ir.passes.InPlacePass):
    """See to it that ONNX Runtime fuses the bodies of our nodes rightly, or not at all.

    All nodes of one op share a body, and so does an op that quantises with the one that does not.

    1. Where each of them would be misread, or one whose size is not known, the body is one that is not fused: the node
       says so to whoever writes the body.
    2. Where some would, their scale is expanded to a vector, so that the others stay fused. A shift is expanded too, as
       it has the shape of the scale.
    """

    def __init__(self, facts: Facts | None = None) -> None:
        """`facts` of the model, where several passes share them."""
        super().__init__()
        self.facts = facts

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Expand, and mark, in place."""
        facts, into, modified = self.facts or Facts(model), NewNodes(model), False
        by_op: dict[str, list[ir.Node]] = {}
        for node in norm_nodes(model):
            by_op.setdefault(OPS[node.op_type].without_quantization.name, []).append(node)
        for nodes in by_op.values():
            wrong = [node for node in nodes if may_be_misread(node, facts)]
            sizes = [_size(node, facts) for node in wrong]
            if len(wrong) < len(nodes) and all(sizes):  # case 2
                for node, size in zip(wrong, sizes, strict=True):
                    _expand(node, size, facts, into, model.opset_imports[""])
                modified |= bool(wrong)
                wrong = []
            for node in nodes:
                node.meta[MISREAD] = node in wrong
        return ir.passes.PassResult(model, modified)


def may_be_misread(node: ir.Node, facts: Facts) -> bool:
    """Whether ONNX Runtime would fuse the body of a norm wrongly, or might, as it may know more of the shapes."""
    scale = scale_of(node)
    assert scale is not None
    shape = facts.shape(scale)
    if shape is not None and len(shape) == 1 and isinstance(shape[0], int) and shape[0] > 1:
        return False  # most are, and what is known of x costs time
    x = _shape(node, facts)
    if x is None and axes_of(node) == (-1,) and shape not in ((0,), (1,)):
        return shape is None or len(shape) != 1  # ONNX Runtime may know that x is a vector
    return misread(x, shape, axes_of(node))


def _shape(node: ir.Node, facts: Facts) -> tuple[int | str | None, ...] | None:
    values = (value for value in (*shaped_inputs(node), *node.outputs) if value is not None)
    return next((shape for value in values if (shape := facts.shape(value)) is not None), None)


def _size(node: ir.Node, facts: Facts) -> int:
    """Of the vector that the scale can become; 0: it cannot."""
    x = _shape(node, facts)
    counts = [None if v is None else _count(facts.shape(v)) for v in node.inputs[OPS[node.op_type].scale_index :]]
    size = x[-1] if x else None
    return size if isinstance(size, int) and all(count in (1, size) for count in counts) else 0


def _count(shape: tuple[int | str | None, ...] | None) -> int | None:
    """Number of elements; None: it is not known."""
    dims = () if shape is None else tuple(dim for dim in shape if isinstance(dim, int))
    return None if shape is None or len(dims) != len(shape) else math.prod(dims)


def _expand(node: ir.Node, size: int, facts: Facts, into: NewNodes, opset: int) -> None:
    """Case 2."""
    first = OPS[node.op_type].scale_index
    for index, value in enumerate(node.inputs[first:], first):
        assert value is not None
        node.replace_input_with(index, _vector(value, node, size, facts, into, opset))


def _vector(value: ir.Value, node: ir.Node, size: int, facts: Facts, into: NewNodes, opset: int) -> ir.Value:
    """`value` with `size` elements; it gets one dim first, as Expand keeps more."""
    annotate(value, facts)
    shape = facts.shape(value)
    count = _count(shape)
    assert shape is not None
    assert count is not None
    if len(shape) != 1:
        target = integers([count], opset)
        flat = ir.node("Reshape", [value, target[-1].outputs[0]])
        flat.outputs[0].type, flat.outputs[0].shape = value.type, ir.Shape([count])
        value = into.before(node, *target, flat)
    if count != size:
        nodes = expanded(value, facts.dtype(value) or ir.DataType.FLOAT, [size], opset)
        nodes[-1].outputs[0].type, nodes[-1].outputs[0].shape = value.type, ir.Shape([size])
        value = into.before(node, *nodes)
    return value
