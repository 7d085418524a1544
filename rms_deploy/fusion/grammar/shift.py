"""The shift of a norm that is one op: norm(x) * scale + shift.

1. The shift is added where the scale was applied: in float32 before the result is rounded, or in the type of x, to
   which x / rms and the product with the scale were rounded. A norm without a scale has one order only.
2. A shift has a shape that a scale may have. Where their shapes differ, one is broadcast to the other, by Expand of
   opset 8 unless the shape is static. Where their types differ, the scale is cast to that of the shift, in which the
   norm is scaled.
3. What has all of the shape of x is a shift only beside a scale of that shape. Else it is a residual.
4. Casts of x from a half type, and of the result to it, become part of the op, as of a gate.
5. The result of the norm is read by nothing else, but for Shape and Size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from rms_deploy.fusion.grammar.chain import ends_with_last, is_copy, is_read_once, reader, rounded, says
from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.constants import scalar
from rms_deploy.onnx_model.inference import Shape
from rms_deploy.onnx_model.sampled_shapes import have_one_sampled_shape, sampled_shape
from rms_deploy.ops.contract import ADD_RMS_NORM, ADD_RMS_NORM_SHIFT, DOMAIN, RMS_NORM, RMS_NORM_SHIFT, Op
from rms_deploy.ops.element_types import HALF
from rms_deploy.ops.function_body import CAST_LIKE_OPSET
from rms_deploy.ops.nodes import axes_of, int_of, label, scale_of
from rms_deploy.ops.scale_shape import broadcasts, why_not_taken

__all__ = ["Shift", "shift_of"]

_SHIFTED: Final[dict[str, Op]] = {RMS_NORM.name: RMS_NORM_SHIFT, ADD_RMS_NORM.name: ADD_RMS_NORM_SHIFT}

_EXPAND_OPSET: Final = 8
"""The first with Expand."""


@dataclass(frozen=True)
class Shift:
    """A norm and its shift, as the op that they become."""

    op: Op
    norm: ir.Node
    x: ir.Value
    scale: ir.Value
    shift: ir.Value
    scale_type: ir.DataType
    add: ir.Node
    """Of the norm and the shift."""
    scaled: ir.Value
    """What the shift is added to."""
    end: ir.Value
    """What the op gives: the sum, or what it is rounded to."""
    widened: ir.Value | None
    """The scale or the shift, where the op needs it in the shape of the other."""
    shapes: tuple[Shape | None, Shape | None]
    """Of the scale and the shift."""


def shift_of(norm: ir.Node, facts: Facts) -> Shift | str | None:
    """The shift that `norm` can take; why it takes none, of what looks like one; or None."""
    op = _SHIFTED.get(norm.op_type) if norm.domain == DOMAIN and None not in norm.inputs else None
    scale, x = (None, None) if op is None else (scale_of(norm), norm.inputs[0])
    if op is None or scale is None or x is None or norm.graph is None or not says(norm, "scale_type"):
        return None
    if not ends_with_last(norm, facts):
        return None
    of_x, dtype = facts.shape(norm.outputs[0]), facts.dtype(norm.outputs[0])
    last = _behind(norm.outputs[0], "Add", facts)
    factor = _behind(norm.outputs[0], "Mul", facts) if last is None else None
    if factor is not None:
        last = _behind(factor.node.outputs[0], "Add", facts)
    if last is None or dtype is None or facts.dtype(last.other) != dtype:
        return None
    add, shift = last.node, last.other
    if of_x is None:
        is_weight = is_op(shift.producer(), "Constant") or shift.const_value is not None
        return f"the shift {label(add)} stays: the shape of the norm is not known" if is_weight else None
    if factor is not None:
        if facts.dtype(factor.other) != dtype or not _have_one_shape(factor.other, shift, facts):
            return None
        if scalar(scale, facts) != 1:
            is_residual = len(of_x) > 1 and facts.shape(shift) == of_x
            why_not = f"the shift {label(add)} stays: the norm has a scale, and {label(factor.node)} scales it again"
            return None if is_residual else why_not
        scale = factor.other
    fit = _fit(scale, shift, of_x, norm, facts)
    if not isinstance(fit, tuple):
        return fit and f"the shift {label(add)} stays: {fit}"
    if add.graph is not norm.graph:
        return f"the shift {label(add)} is in another graph"
    if not is_read_once(last.value):
        return f"the shift {label(add)} stays: the norm is read by others too"
    shapes = (_shape(scale, of_x, facts), _shape(shift, of_x, facts))
    end, scale_type, (widened,) = add.outputs[0], ir.DataType(int_of(norm, "scale_type")), fit
    if dtype in HALF:
        if scale_type != dtype and factor is None and scalar(scale, facts) != 1:
            return f"the shift {label(add)} stays: the norm is rounded to a half type between its scale and the shift"
        scale_type = dtype
    else:
        half = _half(x, facts) if op is RMS_NORM_SHIFT else None
        end, _, to = rounded(end, half, facts, views=False)
        if to is not None:
            x, before = facts.origin(x), (scale, shift)
            scale, shift = _narrow(scale, shift, to, facts)
            widened = {None: None, before[0]: scale, before[1]: shift}[widened]
    return Shift(op, norm, x, scale, shift, scale_type, add, last.value, end, widened, shapes)


@dataclass(frozen=True)
class _Step:
    """What is done to a value."""

    value: ir.Value
    node: ir.Node
    other: ir.Value
    """The other operand."""


def _behind(value: ir.Value, op_type: str, facts: Facts) -> _Step | None:
    """The first Add, or the only Mul, of `value` or of its copy."""
    while (step := reader(value)) is not None and is_copy(step, facts):
        value = step.outputs[0]
    node = next((node for node in value.consumers() if is_op(node, op_type)), None)
    if node is None or (op_type == "Mul" and reader(value) is not node):
        return None
    a, b = node.inputs
    other = b if a is value else a
    return None if other is None or other is value else _Step(value, node, other)


def _have_one_shape(a: ir.Value, b: ir.Value, facts: Facts) -> bool:
    one, other = facts.shape(a), facts.shape(b)
    if facts.are_alike(a, b):
        return True
    may_be = one is not None and other is not None and len(one) == len(other) > 1
    return may_be and have_one_sampled_shape(a, b, facts)


def _fit(
    scale: ir.Value, shift: ir.Value, of_x: Shape, norm: ir.Node, facts: Facts
) -> tuple[ir.Value | None] | str | None:
    """Which of the two is to be widened, in a tuple; why the op does not take the shift; None: it is none."""
    of_scale, of_shift = (_shape(value, of_x, facts) for value in (scale, shift))
    if of_scale is None or of_shift is None:
        return None
    are_alike = _have_one_shape(scale, shift, facts)
    is_tensor = len(of_shift) > 1 and of_shift == of_x
    if (is_tensor and not are_alike) or why_not_taken(of_shift, of_x, axes_of(norm)) is not None:
        return None
    if are_alike:
        return (None,)
    opset = facts.model.opset_imports.get("", 0)
    for value, shape, of_other in ((scale, of_scale, of_shift), (shift, of_shift, of_scale)):
        if broadcasts(shape, of_other):
            is_static = all(isinstance(dim, int) for dim in of_other)
            has_op = is_static or opset >= _EXPAND_OPSET
            return (value,) if has_op else f"opset {opset} has no Expand for {value.name}"
    return f"neither its shape {list(of_shift)} nor that of the scale, {list(of_scale)}, is proven to fit the other"


def _shape(value: ir.Value, of_x: Shape, facts: Facts) -> Shape | None:
    """The shape of a scale or a shift, whose dims are numbers or those of x; at sizes that are tried, else."""
    shape = facts.shape(value)
    is_known = shape is None or all(isinstance(dim, int) or (dim in of_x and dim is not None) for dim in shape)
    return shape if is_known else sampled_shape(value, facts)


def _half(x: ir.Value, facts: Facts) -> ir.DataType | None:
    """The half type that `x` is cast from, where a body can have several types."""
    dtype = facts.dtype(facts.origin(x))
    return dtype if dtype in HALF and facts.model.opset_imports.get("", 0) >= CAST_LIKE_OPSET else None


def _narrow(scale: ir.Value, shift: ir.Value, half: ir.DataType, facts: Facts) -> tuple[ir.Value, ir.Value]:
    """Both as they were before they were cast from `half`, if both were."""
    one, other = facts.origin(scale), facts.origin(shift)
    return (one, other) if facts.dtype(one) == facts.dtype(other) == half else (scale, shift)
