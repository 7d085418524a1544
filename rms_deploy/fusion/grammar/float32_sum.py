"""A residual stream in float32 and the norm of a half type that reads it, as one op.

1. The norm reads the sum rounded to its type, as Mamba's does: RMSNorm(Cast(Add(x, r))). One operand was cast up from
   that type; it becomes X, and the other one stays float32.
2. The norm reads the float32 sum, and its result is rounded, as vLLM's is: Cast(AddRMSNorm(x, r)), where one operand
   was cast up. Where x / rms is rounded first, the Mul by the weight follows.
3. In case 2 the sum is kept in the half type if both operands have it, and everything else reads it rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from rms_deploy.fusion.grammar.chain import ends_with_last, is_cast, is_read_once, reader, rounded, sum_of
from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.constants import scalar
from rms_deploy.ops.contract import ADD_FLOAT32_RMS_NORM, ADD_RMS_NORM, DOMAIN, OPS, Op
from rms_deploy.ops.element_types import HALF
from rms_deploy.ops.function_body import CAST_LIKE_OPSET
from rms_deploy.ops.nodes import axes_of, scale_of
from rms_deploy.ops.scale_shape import why_not_taken

__all__ = ["Float32Sum", "float32_sum_of"]

_FLOAT32: Final = ir.DataType.FLOAT

_ROUNDED: Final[dict[str, Op]] = {
    op.name: with_sum for op in OPS.values() if (with_sum := OPS.get(f"Add{op.name}")) is not None and not op.is_add
}
"""Case 1: our op of a sum, by that of one tensor."""


@dataclass(frozen=True)
class Float32Sum:
    """A norm and its sum, as the op that they become."""

    op: Op
    norm: ir.Node
    x: ir.Value
    """Of a half type."""
    residual: ir.Value
    factors: tuple[ir.Value, ...]
    """The scale, and the shift if there is one."""
    scale_type: ir.DataType | None
    """None: what the norm has."""
    total: ir.Value
    """The float32 sum."""
    end: ir.Value
    """What the norm gives, in the half type."""
    is_rounded: bool = False
    """Whether nothing reads the sum in float32, so that it is kept in the half type."""
    rounded_totals: tuple[ir.Value, ...] = ()
    """What the sum is rounded to then."""


def float32_sum_of(norm: ir.Node, facts: Facts) -> Float32Sum | None:
    """The op that `norm` and its float32 sum become; None: they become none."""
    is_sum = norm.domain == DOMAIN and norm.op_type in (*_ROUNDED, ADD_RMS_NORM.name)
    if (
        not is_sum
        or norm.graph is None
        or None in norm.inputs
        or facts.model.opset_imports.get("", 0) < CAST_LIKE_OPSET
        or not ends_with_last(norm, facts)
    ):
        return None
    if norm.op_type in _ROUNDED:
        return _rounded_sum(norm, facts)
    return _unrounded_sum(norm, facts)


def _rounded_sum(norm: ir.Node, facts: Facts) -> Float32Sum | None:
    """Case 1."""
    cast_value = norm.inputs[0]
    cast = None if cast_value is None else cast_value.producer()
    if cast_value is None or cast is None or cast.inputs[0] is None:
        return None
    half = facts.dtype(cast_value)
    add = sum_of(facts.origin(cast.inputs[0]))
    if add is None or half not in HALF or not is_cast(cast, facts, half) or facts.dtype(add.outputs[0]) != _FLOAT32:
        return None
    if add.graph is not norm.graph or cast.graph is not norm.graph:
        return None
    operands = _operands(add, half, facts)
    if operands is None:
        return None
    x, residual = operands
    factors = tuple(value for value in norm.inputs[1:] if value is not None)
    return Float32Sum(_ROUNDED[norm.op_type], norm, x, residual, factors, None, add.outputs[0], norm.outputs[0])


def _unrounded_sum(norm: ir.Node, facts: Facts) -> Float32Sum | None:
    """Case 2."""
    y, total, scale = norm.outputs[0], norm.outputs[1], scale_of(norm)
    if facts.dtype(y) != _FLOAT32 or not is_read_once(y) or scale is None:
        return None
    half = next((dtype for value in norm.inputs[:2] if (dtype := _half_of(value, facts)) is not None), None)
    end, _, to = rounded(y, half, facts, views=False)
    operands = None if half is None or to is None else _operands(norm, half, facts)
    if operands is None or half is None:
        return None
    x, residual = operands
    scale_type = _FLOAT32
    weight = _weight(end, norm, half, facts) if scalar(scale, facts) == 1 else None
    if weight is not None:
        mul, scale = weight
        end, scale_type = mul.outputs[0], half
    elif facts.dtype(facts.origin(scale)) == half:
        scale = facts.origin(scale)
    casts = [node for node in total.consumers() if is_cast(node, facts, half) and node.graph is norm.graph]
    is_rounded = len(casts) == len(total.uses()) and not total.is_graph_output()
    before = facts.origin(residual)
    if not is_rounded or facts.dtype(before) != half or sum(c.outputs[0].is_graph_output() for c in casts) > 1:
        return Float32Sum(ADD_FLOAT32_RMS_NORM, norm, x, residual, (scale,), scale_type, total, end)
    totals = sorted((cast.outputs[0] for cast in casts), key=lambda value: not value.is_graph_output())
    return Float32Sum(ADD_FLOAT32_RMS_NORM, norm, x, before, (scale,), scale_type, total, end, True, tuple(totals))


def _half_of(value: ir.Value | None, facts: Facts) -> ir.DataType | None:
    """The half type that `value` was cast from."""
    dtype = None if value is None else facts.dtype(facts.origin(value))
    return dtype if dtype in HALF else None


def _operands(node: ir.Node, half: ir.DataType, facts: Facts) -> tuple[ir.Value, ir.Value] | None:
    """X, as it was before it was cast from `half`, and the other operand; None: neither was, or their shapes differ."""
    a, b = node.inputs[:2]
    if a is None or b is None or not facts.are_alike(a, b):
        return None
    for value, other in ((a, b), (b, a)):
        if _half_of(value, facts) == half:
            return facts.origin(value), other
    return None


def _weight(y: ir.Value, norm: ir.Node, half: ir.DataType, facts: Facts) -> tuple[ir.Node, ir.Value] | None:
    """The Mul that scales what the norm was rounded to, and its weight."""
    mul, shape = reader(y), facts.shape(norm.outputs[0])
    if mul is None or not is_op(mul, "Mul") or mul.graph is not norm.graph or shape is None:
        return None
    weight = mul.inputs[1] if mul.inputs[0] is y else mul.inputs[0]
    of_weight = None if weight is None or weight is y else facts.shape(weight)
    if weight is None or of_weight is None or facts.dtype(weight) != half:
        return None
    is_tensor = of_weight == shape and len(shape) > 1
    return None if is_tensor or why_not_taken(of_weight, shape, axes_of(norm)) is not None else (mul, weight)
