"""What stays outside of a norm that is one of our ops: a scale that it could have taken, a residual, a gate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Final

import onnx_ir as ir

from rms_deploy.fusion.grammar.chain import sum_of
from rms_deploy.fusion.near_miss import NearMiss, Part, near_miss
from rms_deploy.fusion.passes.fuse_add_rms_norm import add_of, why_not_merged
from rms_deploy.fusion.passes.fuse_float32_sum import why_not_in_float32
from rms_deploy.fusion.passes.fuse_gate import why_no_gate
from rms_deploy.fusion.passes.fuse_quantize import why_not_quantized
from rms_deploy.fusion.passes.fuse_shift import why_no_shift
from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.constants import scalar
from rms_deploy.onnx_model.inference import Shape
from rms_deploy.ops.contract import OPS, RMS_NORM, reciprocal
from rms_deploy.ops.nodes import axes_of, label, norm_nodes, scale_of, shaped_inputs
from rms_deploy.ops.scale_shape import why_not_taken

__all__ = ["half_fused", "wide_scale"]

_COMPUTED: Final = ("Add", "Cast", "CastLike", "DequantizeLinear", "Expand", "Identity", "Mul", "Reshape", "Unsqueeze")
"""Operators between a weight and the Mul that reads it."""

_MAX_NODES: Final = 16


def half_fused(
    model: ir.Model, facts: Facts, *, parts: Collection[str] = ("residual", "gate", "shift", "quantization")
) -> Iterator[NearMiss]:
    """The parts of norms that stay outside, each with its reason.

    `parts`: which there are, besides scales. A Mul whose scale has a shape that the op does not take is none: see
    `wide_scale`.
    """
    why_not: dict[Part, Callable[[ir.Node, Facts], str | None]] = {
        "residual": _residual_outside,
        "gate": why_no_gate,
        "shift": why_no_shift,
        "quantization": why_not_quantized,
    }
    for node in norm_nodes(model):
        reason = _scale_outside(node, facts)
        if reason is not None:
            yield replace(near_miss("scaled", node, reason), left="scale")
        for part, why in why_not.items():
            reason = why(node, facts) if part in parts else None
            if reason is not None:
                yield replace(near_miss(part, node, reason), left=part)


def wide_scale(node: ir.Node, facts: Facts) -> str:
    """Why weights that `node` is multiplied with after it are no scale of it, by their shape; or empty."""
    for weight, _ in _weights(node, facts):
        shape, of_x = facts.shape(weight), _shape_of(node, facts)
        if shape is not None and of_x is not None and _fits(shape, of_x, axes_of(node)) is False:
            return f"its scale {list(shape)} stays a Mul: it {why_not_taken(shape, of_x, axes_of(node))}"
    return ""


def _residual_outside(node: ir.Node, facts: Facts) -> str | None:
    why_not = why_not_in_float32(node)
    if why_not is not None:
        return why_not
    add, x = add_of(node), node.inputs[0]
    if add is not None:
        return why_not_merged(add, node, facts)
    if x is None or node.op_type not in (RMS_NORM.name, reciprocal(RMS_NORM).name):
        return None
    cast = x.producer()
    rounded = cast.inputs[0] if cast is not None and is_op(cast, "Cast") else None
    before = next((value for value in (x, rounded) if value is not None and sum_of(facts.origin(value))), None)
    add = None if before is None else sum_of(facts.origin(before))
    is_residual = add is not None and all(value is not None and not _is_weight(value) for value in add.inputs)
    if add is None or before is None or not is_residual or not facts.are_alike(*_operands(add)):
        return None
    return f"the Add {label(add)} stays: its sum is cast before it is normalised"


def _operands(add: ir.Node) -> tuple[ir.Value, ir.Value]:
    a, b = add.inputs
    assert a is not None
    assert b is not None
    return a, b


def _scale_outside(node: ir.Node, facts: Facts) -> str | None:
    for weight, is_quantised in _weights(node, facts):
        shape, of_x = facts.shape(weight), _shape_of(node, facts)
        fits = None if shape is None else _fits(shape, of_x, axes_of(node))
        if is_quantised:
            return f"x / rms is quantised before it is scaled by {weight.name}; fuse before quantising"
        if fits and _is_read_once(node):
            return f"its scale {weight.name} stayed a Mul when the norm was fused; unfuse the model, and fuse it again"
        if fits:
            return f"x / rms is read by others too, so its scale {weight.name} stays a Mul"
        if fits is None:
            unknown = f"{weight.name}, its scale," if shape is None else "x"
            return f"the shape of {unknown} is not known, so its scale {weight.name} stays a Mul"
    return None


def _is_read_once(node: ir.Node) -> bool:
    value = node.outputs[0]
    return [reader.graph for reader in value.consumers()] == [node.graph] and not value.is_graph_output()


def _weights(node: ir.Node, facts: Facts) -> Iterator[tuple[ir.Value, bool]]:
    """The weights by which the result of a `node` without a scale is multiplied, and whether it is quantised first."""
    if scalar(scale_of(node), facts) != 1 or OPS[node.op_type].epilogue:
        return
    values = [(node.outputs[0], False)]
    for value, is_quantised in values:  # grows
        for reader in value.consumers():
            if reader.op_type in ("QuantizeLinear", "DequantizeLinear") and reader.inputs[0] is value:
                values.append((reader.outputs[0], True))
            elif is_op(reader, "Mul"):
                other = reader.inputs[1] if reader.inputs[0] is value else reader.inputs[0]
                if other is not None and other is not value and _is_weight(other):
                    yield other, is_quantised


def _is_weight(value: ir.Value) -> bool:
    """Whether `value` is computed from initialisers and constants alone, in a few nodes."""
    waiting = [value]
    for source in waiting:  # grows
        node = source.producer()
        if node is None:
            if source.const_value is None:
                return False
        elif not is_op(node, "Constant"):
            if node.op_type not in _COMPUTED or len(waiting) > _MAX_NODES:
                return False
            waiting += (value for value in node.inputs if value is not None)
    return True


def _shape_of(node: ir.Node, facts: Facts) -> Shape | None:
    values = (value for value in (*shaped_inputs(node), node.outputs[0]) if value is not None)
    return next((shape for value in values if (shape := facts.shape(value)) is not None), None)


def _fits(scale: Shape, x: Shape | None, axes: tuple[int, ...]) -> bool | None:
    """Whether the op takes a scale of this shape; None: that is not known."""
    if all(dim == 1 for dim in scale):
        return True
    if x is None or any(dim is None for dim in scale):
        return None
    if why_not_taken(scale, x, axes) is None:
        return True
    pairs = zip(reversed(scale), reversed(x), strict=False)
    unknown = any(dim not in (1, of_x) and not (isinstance(dim, int) and isinstance(of_x, int)) for dim, of_x in pairs)
    return None if unknown and len(scale) <= len(x) else False
