"""Whether an op that normalises over the last axes, and has an epsilon only, can express a norm of ours."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from rms_deploy.ops.contract import OPS
from rms_deploy.ops.nodes import axes_of, float_of, int_of, shaped_inputs

__all__ = ["block_of", "why_not_trailing"]


def why_not_trailing(node: ir.Node, op: str) -> str | None:
    """Why `op`, whose only constant is the epsilon inside the root, cannot express `node`; None if it can."""
    x = node.inputs[0]
    if OPS[node.op_type].is_partial:
        return f"{op} has no partial mean"
    if OPS[node.op_type].is_reciprocal and int_of(node, "scale_type") != ir.DataType.FLOAT:
        return f"{op} does not round 1 / rms to a half type before x is multiplied by it"
    for name in ("rms_epsilon", "rms_min"):
        if float_of(node, name) != 0:
            return f"{op} has no {name}, here {float_of(node, name):g}"
    if x is None or x.dtype is None:
        return "the type of X is not known"
    axes = axes_of(node)
    rank = None if x.shape is None else len(x.shape)
    if rank is None and max(axes) >= 0:
        return f"the rank of X is not known, and axes {list(axes)} count from the front"
    if _has_no_elements(node):
        return f"{op} refuses axes without elements"
    last = max(axis if axis < 0 else axis - (rank or 0) for axis in axes)
    return None if last == -1 else f"{op} has only trailing axes, not {list(axes)}"


def block_of(node: ir.Node) -> tuple[int, ...]:
    """The dims that `node` normalises over; () where they are not static."""
    for dims in _blocks(node):
        static = tuple(dim for dim in dims if isinstance(dim, int))
        if len(static) == len(dims):
            return static
    return ()


def _has_no_elements(node: ir.Node) -> bool:
    return any(dim == 0 for dims in _blocks(node) for dim in dims)


def _blocks(node: ir.Node) -> Iterator[list[int | ir.SymbolicDim]]:
    """The dims normalised over, as each input but the scale and each output has them."""
    axes = axes_of(node)
    for value in (*shaped_inputs(node), *node.outputs):
        shape = None if value is None else value.shape
        if shape is not None and all(-len(shape) <= axis < len(shape) for axis in axes):
            yield [shape[axis] for axis in axes]
