"""Why two tensors are not fused as one shape: only where that is not known, for a broadcast is meant."""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.inference import Shape

__all__ = ["why_not_one_shape"]


def why_not_one_shape(a: ir.Value, b: ir.Value, facts: Facts) -> str | None:
    """What is not proven of the shapes of `a` and `b`; None where one of them is known to be broadcast."""
    one, other = facts.shape(a), facts.shape(b)
    if one is not None and other is not None and _is_broadcast(one, other):
        return None
    return f"{a.name} ({_text(one)}) and {b.name} ({_text(other)}) are not proven to have one shape"


def _is_broadcast(one: Shape, other: Shape) -> bool:
    """Whether the shapes are known to differ, or one of them says by a 1 that it is to be broadcast."""
    if len(one) != len(other):
        return True
    return any(
        a != b and (1 in (a, b) or (isinstance(a, int) and isinstance(b, int))) for a, b in zip(one, other, strict=True)
    )


def _text(shape: Shape | None) -> str:
    return "of unknown shape" if shape is None else f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"
