"""Whether an op that normalises over the last axes, and has an epsilon only, can express a norm of ours."""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.ops.contract import PARTIAL_RMS_NORM
from rms_deploy.ops.nodes import axes_of, float_of

__all__ = ["why_not_trailing"]


def why_not_trailing(node: ir.Node, op: str) -> str | None:
    """Why `op`, whose only constant is the epsilon inside the root, cannot express `node`; None if it can."""
    x = node.inputs[0]
    if node.op_type == PARTIAL_RMS_NORM.name:
        return f"{op} has no partial mean"
    for name in ("rms_epsilon", "rms_min"):
        if float_of(node, name) != 0:
            return f"{op} has no {name}, here {float_of(node, name):g}"
    if x is None or x.dtype is None:
        return "the type of X is not known"
    axes = axes_of(node)
    rank = None if x.shape is None else len(x.shape)
    if rank is None and max(axes) >= 0:
        return f"the rank of X is not known, and axes {list(axes)} count from the front"
    last = max(axis if axis < 0 else axis - (rank or 0) for axis in axes)
    return None if last == -1 else f"{op} has only trailing axes, not {list(axes)}"
