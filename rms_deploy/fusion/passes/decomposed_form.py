"""Whether a norm is in the primitives that `LowerToPrimitives` writes, so that there is nothing to write anew."""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.fusion.grammar.match import Match
from rms_deploy.onnx_model.analysis import Facts, is_op

__all__ = ["is_decomposed_form"]


def is_decomposed_form(match: Match, facts: Facts) -> bool:
    """Whether a norm is spelled as the body of our op, from the square to x / rms, in float32.

    Pow(x, 2) or Mul(x, x), ReduceMean, Add of the epsilon, Sqrt, Add and Max where there is something to add or to
    bound, Div; Reciprocal where 1 / rms is rounded. The constants are nodes.
    """
    mean = match.anchor
    square = mean.inputs[0].producer() if mean.inputs and mean.inputs[0] is not None else None
    if match.gain is not None or not is_op(mean, "ReduceMean") or square is None or not _is_square(square, facts):
        return False
    biased = _reader(mean)
    root = _reader(biased)
    if not _adds_constant(biased, "Add") or not is_op(root, "Sqrt"):
        return False
    end = _reader(root)
    for op_type in ("Add", "Max"):
        if _adds_constant(end, op_type):
            end = _reader(end)
    return end is not None and is_op(end, "Reciprocal" if match.rounds_reciprocal else "Div")


def _is_square(node: ir.Node, facts: Facts) -> bool:
    x = node.inputs[0]
    if x is None or facts.dtype(x) != ir.DataType.FLOAT:
        return False
    return _adds_constant(node, "Pow") or (is_op(node, "Mul") and node.inputs[1] is x)


def _reader(node: ir.Node | None) -> ir.Node | None:
    """The node that reads what `node` makes, if there is one only."""
    if node is None or len(node.outputs[0].uses()) != 1:
        return None
    return node.outputs[0].consumers()[0]


def _adds_constant(node: ir.Node | None, op_type: str) -> bool:
    """Whether `node` is this operator, with a constant as the body has it for its second operand."""
    if node is None or not is_op(node, op_type) or len(node.inputs) != 2 or node.inputs[1] is None:
        return False
    return is_op(node.inputs[1].producer(), "Constant")
