"""The gate of a norm that is one op: norm(x * silu(z)), norm(x) * silu(z), and norm(x) * sigmoid(z).

1. In front, the product is float32, and nothing rounds it. Behind, the norm is float32 until it is multiplied by
   the gate, or rounded to the type of x before and after its scale. So the op rounds where the model does.
2. x and z have one shape, or the op would not know what to broadcast.
3. Casts of x and z from a half type, and of the result to it, become part of the op. Where they have another type than
   that, the op is one of float32 between them.
4. Between the norm and its gate or scale, the rows may be split into groups by a Reshape, and put together again by
   another: the op then has x and z in groups, and a row of scale for each. Where a group is a whole row, no Reshape is
   needed.
5. What stands between is read by nothing else, but for Shape and Size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import onnx_ir as ir

from rms_deploy.fusion.grammar.chain import (
    ends_with_last,
    is_cast,
    is_copy,
    is_read_once,
    is_view,
    reader,
    rounded,
    says,
    sources,
)
from rms_deploy.fusion.grammar.sigmoid import sigmoid_of, silu_of
from rms_deploy.fusion.one_shape import why_not_one_shape
from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.constants import scalar
from rms_deploy.onnx_model.inference import Shape
from rms_deploy.onnx_model.reshaped_sizes import open_dim
from rms_deploy.onnx_model.sampled_shapes import have_one_sampled_shape
from rms_deploy.ops.contract import (
    DOMAIN,
    RMS_NORM,
    RMS_NORM_SIGMOID_GATE,
    RMS_NORM_SILU_GATE,
    SILU_GATE_RMS_NORM,
    Op,
)
from rms_deploy.ops.element_types import ELEMENT_NAMES, HALF
from rms_deploy.ops.function_body import CAST_LIKE_OPSET
from rms_deploy.ops.nodes import axes_of, int_of, label, scale_of
from rms_deploy.ops.scale_shape import why_not_taken

__all__ = ["Gate", "gate_of"]

_FLOAT32: Final = ir.DataType.FLOAT


@dataclass(frozen=True)
class Gate:
    """A norm and its gate, as the op that they become."""

    op: Op
    norm: ir.Node
    x: ir.Value
    z: ir.Value
    """Of the type and the shape of x."""
    scale: ir.Value
    scale_type: ir.DataType
    end: ir.Value
    """What the op gives, after `back`."""
    product: ir.Node
    """The Mul by silu(z) or sigmoid(z)."""
    sized: ir.Value
    """Of the shape of x and z: what only the next node, Shape and Size read."""
    scale_shape: tuple[int, ...] = ()
    """What scale is reshaped to; (): it stays as it is."""
    view: ir.Node | None = None
    """The Reshape that x and z pass before the op; None: none."""
    back: ir.Node | None = None
    """The Reshape behind the op; None: none."""
    is_grouped: bool = True
    """False: the op needs no Reshapes, though there are."""
    row_shape: Shape | None = None
    """Of x and z."""
    shape: Shape | None = None
    """Of x behind `view`."""
    end_shape: Shape | None = None
    """Of the result behind `back`."""


def gate_of(norm: ir.Node, facts: Facts) -> Gate | str | None:
    """The gate that `norm` can take; why it takes none, of what looks like one; or None."""
    is_plain = norm.domain == DOMAIN and norm.op_type == RMS_NORM.name and None not in norm.inputs
    if not is_plain or norm.graph is None or not (says(norm, "scale_type") and ends_with_last(norm, facts)):
        return None
    found = _in_front(norm, facts) or _behind(norm, facts)
    return replace(found, is_grouped=_is_grouped(found, facts)) if isinstance(found, Gate) else found


def _in_front(norm: ir.Node, facts: Facts) -> Gate | str | None:
    between, view = sources(norm.inputs[0], facts)
    product = between[-1].producer()
    if product is None or not is_op(product, "Mul"):
        return None
    a, b = product.inputs
    x, z = next(((x, z) for x, y in ((a, b), (b, a)) if (z := silu_of(y, facts)) is not None), (None, None))
    dtype = facts.dtype(product.outputs[0])
    if x is None or z is None or dtype not in ELEMENT_NAMES:
        return None
    if dtype in HALF or facts.dtype(z) != _FLOAT32:
        return f"the gate {label(product)} stays: x * silu(z) is rounded to a half type before it is normalised"
    if not _are_alike(x, z, facts):
        unproven = why_not_one_shape(x, z, facts)
        return unproven and f"the gate {label(product)} stays: {unproven}"
    *copies, sized = between
    if product.graph is not norm.graph:
        return f"the gate {label(product)} is in another graph"
    if not (is_read_once(sized) and all(map(reader, copies))):
        return f"the gate {label(product)} stays: x * silu(z) is read by others too"
    end, back, half = rounded(norm.outputs[0], _common_half(x, z, facts), facts)
    gate = Gate(SILU_GATE_RMS_NORM, norm, x, z, _scale(norm), _FLOAT32, end, product, sized, view=view, back=back)
    gate = _shaped(gate, facts)
    return _scaled(_of_type(gate, half or _FLOAT32, facts), facts)


def _scaled(gate: Gate, facts: Facts) -> Gate | str:
    """The gate with the weight that its norm is multiplied by last, where it has none."""
    mul = reader(gate.end)
    if mul is None or not is_op(mul, "Mul") or scalar(gate.scale, facts) != 1:
        return gate
    weight = mul.inputs[1] if mul.inputs[0] is gate.end else mul.inputs[0]
    dtype = facts.dtype(gate.end)
    if weight is None or weight is gate.end or dtype is None or facts.dtype(weight) != dtype:
        return gate
    scaled = replace(gate, end=mul.outputs[0], scale=weight, scale_type=dtype)
    shape, of_x, of_end = facts.shape(weight), gate.shape, gate.end_shape
    if shape is None or of_x is None:
        return gate
    if gate.back is None and why_not_taken(shape, of_x, axes_of(gate.norm)) is None:
        return gate if shape == of_x and len(shape) > 1 else scaled
    if len(shape) != 1 or gate.back is None:
        return gate
    if of_end is None or not isinstance(of_end[-1], int):
        return f"the size of the groups that {weight.name} scales is not known"
    for count in range(1, len(of_x) + 1):
        dims = tuple(dim for dim in of_x[-count:] if isinstance(dim, int))
        if len(dims) != count:
            return f"the size of the groups that {weight.name} scales is not known"
        if math.prod(dims) == of_end[-1] == shape[0] and why_not_taken(dims, of_x, axes_of(gate.norm)) is None:
            return replace(scaled, scale_shape=dims if count > 1 else ())
    return gate


def _behind(norm: ir.Node, facts: Facts) -> Gate | str | None:
    y, dtype = norm.outputs[0], facts.dtype(norm.outputs[0])
    back: ir.Node | None = None
    while (step := reader(y)) is not None:
        if back is None and is_view(step):
            back = step
        elif not (is_cast(step, facts, _FLOAT32) or is_copy(step, facts)):
            break
        y = step.outputs[0]
    product = next((node for node in y.consumers() if is_op(node, "Mul") and _other(node, y, facts) is not None), None)
    other = None if product is None else _other(product, y, facts)
    if product is None or other is None:
        return None
    op, z = other
    if facts.dtype(y) in HALF or facts.dtype(z) in HALF:
        text = "silu(z)" if op is RMS_NORM_SILU_GATE else "sigmoid(z)"
        return f"the gate {label(product)} stays: {text} is rounded to a half type before the norm is multiplied by it"
    if facts.dtype(y) != _FLOAT32 or facts.dtype(z) != _FLOAT32:
        return None
    if product.graph is not norm.graph:
        return f"the gate {label(product)} is in another graph"
    if not is_read_once(y):
        return f"the gate {label(product)} stays: the norm is read by others too"
    x, view = norm.inputs[0], None
    assert x is not None
    if back is not None:
        between, view = sources(x, facts)
        x = between[-1]
        if view is None or not _are_alike(x, z, facts):
            return f"the gate {label(product)} stays: the Reshape {label(back)} before it is not undone for z"
    scale, scale_type, end = _scale(norm), _FLOAT32, product.outputs[0]
    gate = _shaped(Gate(op, norm, x, z, scale, scale_type, end, product, y, view=view, back=back), facts)
    is_of_z = gate.end_shape is not None and None not in gate.end_shape and gate.end_shape == facts.shape(z)
    if not is_of_z and not _are_alike(y, z, facts):
        unproven = why_not_one_shape(y, z, facts)
        return unproven and f"the gate {label(product)} stays: {unproven}"
    end, _, half = rounded(end, _common_half(x, z, facts), facts, views=False)
    if dtype in HALF:
        if half != dtype:
            return f"the gate {label(product)} stays: z, or the result, has another type than the norm"
        if int_of(norm, "scale_type") != dtype and scalar(scale, facts) != 1:
            return f"the gate {label(product)} stays: the norm is rounded to a half type between its scale and the gate"
        scale_type = dtype
    return _of_type(replace(gate, end=end, scale_type=scale_type), half or _FLOAT32, facts)


def _shaped(gate: Gate, facts: Facts) -> Gate:
    """The gate with its shapes, where one symbol is one size."""
    one, other = facts.shape(gate.x), facts.shape(gate.z)
    row_shape = one or other
    if one is not None and other is not None and len(one) == len(other):
        row_shape = tuple(a if isinstance(a, int) else b for a, b in zip(one, other, strict=True))
    shape = facts.shape(gate.norm.outputs[0]) if gate.view is None else _reshaped(gate.view, row_shape, facts)
    end_shape = shape if gate.back is None else _reshaped(gate.back, shape, facts)
    return replace(gate, row_shape=row_shape, shape=shape, end_shape=end_shape)


def _are_alike(x: ir.Value, z: ir.Value, facts: Facts) -> bool:
    """Case 2. A wrong answer ends in an error of the op, and not in other numbers."""
    one, other = facts.shape(x), facts.shape(z)
    if facts.are_alike(x, z):
        return True
    may_be = one is not None and other is not None and len(one) == len(other)
    return may_be and have_one_sampled_shape(x, z, facts)


def _reshaped(reshape: ir.Node, before: Shape | None, facts: Facts) -> Shape | None:
    after = facts.shape(reshape.outputs[0])
    found = None if before is None or after is None else open_dim(before, after)
    return after if after is None or found is None else (*after[: found[0]], found[1], *after[found[0] + 1 :])


def _is_grouped(gate: Gate, facts: Facts) -> bool:
    """Case 4: whether a group is less than a row of x."""
    of_x, scale = gate.row_shape, facts.shape(gate.scale)
    if gate.view is None or gate.back is None or axes_of(gate.norm) != (-1,) or scale is None:
        return True
    if not of_x or not gate.shape or None in of_x or gate.end_shape != of_x or len(scale) > len(of_x):
        return True
    if any(dim != 1 for dim in scale[:-1]):  # its rows are those of the groups
        return True
    return not isinstance(of_x[-1], int) or of_x[-1] != gate.shape[-1]


def _common_half(x: ir.Value, z: ir.Value, facts: Facts) -> ir.DataType | None:
    """The half type that both are cast from, where a body can have several types."""
    one, other = (facts.dtype(facts.origin(value)) for value in (x, z))
    is_half = one in HALF and one == other and facts.model.opset_imports.get("", 0) >= CAST_LIKE_OPSET
    return one if is_half else None


def _scale(norm: ir.Node) -> ir.Value:
    scale = scale_of(norm)
    assert scale is not None
    return scale


def _of_type(gate: Gate, dtype: ir.DataType, facts: Facts) -> Gate:
    """The gate with its inputs as they were before they were cast or copied, where they had this type then."""

    def before(value: ir.Value) -> ir.Value:
        origin = facts.origin(value)
        return origin if facts.dtype(origin) == dtype else value

    return replace(gate, x=before(gate.x), z=before(gate.z), scale=before(gate.scale))


def _other(product: ir.Node, y: ir.Value, facts: Facts) -> tuple[Op, ir.Value] | None:
    """The op and the z where `product` is y * silu(z) or y * sigmoid(z). With y for z it is an activation."""
    other = product.inputs[1] if product.inputs[0] is y else product.inputs[0]
    if other is y:
        return None
    for op, z in ((RMS_NORM_SILU_GATE, silu_of(other, facts)), (RMS_NORM_SIGMOID_GATE, sigmoid_of(other, facts))):
        if z is not None:
            return None if facts.same(z, y) else (op, z)
    return None
