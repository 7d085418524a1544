"""A norm for people: what `fuse`, `unfuse` and `inspect` say of a node or a match that is one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import onnx_ir as ir

from rms_deploy.fusion.grammar.match import Match
from rms_deploy.fusion.grammar.search import SearchResult
from rms_deploy.fusion.half_fused import wide_scale
from rms_deploy.fusion.norm import NOTE, PROOF, Norm, Rounding
from rms_deploy.fusion.passes.expand_skip_norm import is_skip_norm, why_not_expanded
from rms_deploy.fusion.replacement import replacement_for
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.contract import OPS, QUANTIZED_TYPES, Op
from rms_deploy.ops.element_types import ELEMENT_NAMES
from rms_deploy.ops.foreign_ops import foreign_norm
from rms_deploy.ops.forms import NormForm
from rms_deploy.ops.nodes import label, place_of, scale_of, shaped_inputs

__all__ = ["describe_foreign", "describe_fused", "describe_match"]

_CAN_BE_FUSED: Final = "can be fused"

_QUANTIZED_NAMES: Final = {number: name for name, number in QUANTIZED_TYPES.items()}

_MAX_RANK: Final = 64
"""Axes that are listed where the rank is not known."""


def describe_fused(node: ir.Node, facts: Facts) -> Norm:
    """A node of our domain."""
    op = OPS[node.op_type]
    given = {name: attribute.value for name, attribute in node.attributes.items() if not attribute.is_ref()}
    values: dict[str, Any] = {"partial_size": None, "output_dtype": None, "y_scale": None, **op.defaults(), **given}
    dtype = _dtype(node.inputs[0], facts)
    axes = tuple(values["axes"])
    proof = node.meta.get(PROOF)
    return Norm(
        kind=node.op_type,
        form=NormForm.FUSED,
        node=label(node),
        place=place_of(node),
        dtype=_name(dtype),
        axes=axes,
        n=_block_size(shaped_inputs(node), axes, facts),
        epsilon=values["epsilon"],
        rms_epsilon=values["rms_epsilon"],
        rms_min=values["rms_min"],
        partial_size=values["partial_size"],
        rounding=_rounding(op, dtype, before_scale=values["scale_type"] != ir.DataType.FLOAT),
        scale=_scale(scale_of(node), facts),
        note="; ".join(note for note in (node.meta.get(NOTE), wide_scale(node, facts)) if note),
        max_ulp=None if proof is None else proof.max_ulp,
        unproven="" if proof is None else proof.why_not,
        sum_dtype=_name(_dtype(node.inputs[1], facts)) if op.is_add else None,
        output_dtype=_QUANTIZED_NAMES.get(values["output_dtype"]),
        y_scale=values["y_scale"],
    )


def describe_match(match: Match, facts: Facts) -> Norm:
    """A norm that the grammar derived, as the op that it would become."""
    op = replacement_for(match, facts)
    norm = foreign_norm(match.anchor)
    return Norm(
        kind=op.op_type,
        form=NormForm.DECOMPOSED if norm is None else norm.form,
        node=label(match.anchor),
        place=place_of(match.anchor),
        dtype=_name(op.dtype),
        axes=match.axes,
        n=match.n,
        epsilon=match.epsilon or 0.0,
        rms_epsilon=match.rms_epsilon or 0.0,
        rms_min=match.rms_min or 0.0,
        partial_size=match.partial_size,
        rounding=_rounding(
            OPS[op.op_type], op.dtype, before_scale=match.rounds_before_scale or match.rounds_reciprocal
        ),
        scale=_scale(op.scale, facts),
        note=_CAN_BE_FUSED,
    )


def describe_foreign(node: ir.Node, facts: Facts, result: SearchResult | None = None) -> Norm:
    """One node that is a whole norm of ONNX or ONNX Runtime.

    Args:
        node: for which `foreign_norm` is not None.
        facts: of the model.
        result: of the search at `node`, which its note is about; None: it gets no note.
    """
    norm = foreign_norm(node)
    assert norm is not None, node.op_type
    x = node.inputs[0] if node.inputs else None
    epsilon, axis = node.attributes.get("epsilon"), node.attributes.get("axis")
    first = -1 if axis is None or axis.is_ref() else axis.as_int()
    rank = None if x is None else facts.rank(x)
    start = first if first < 0 or rank is None else first - rank
    axes = tuple(range(start, 0)) if -max(rank or 0, _MAX_RANK) <= start < 0 else None
    return Norm(
        kind=node.op_type,
        form=norm.form,
        node=label(node),
        place=place_of(node),
        dtype=_name(_dtype(x, facts)),
        axes=axes,
        n=None if axes is None else _block_size(node.inputs[:1], axes, facts),
        epsilon=norm.epsilon if epsilon is None else None if epsilon.is_ref() else epsilon.as_float(),
        rms_epsilon=0.0,
        rms_min=0.0,
        partial_size=None,
        rounding=None,
        scale=_scale(node.inputs[norm.scale] if len(node.inputs) > norm.scale else None, facts),
        note="" if result is None else _note(node, facts, result),
    )


def _note(node: ir.Node, facts: Facts, result: SearchResult) -> str:
    """That a whole norm can be fused, or why it cannot."""
    if is_skip_norm(node):
        return why_not_expanded(node, facts) or _CAN_BE_FUSED
    if result.matches:
        return _CAN_BE_FUSED
    norm = foreign_norm(node)
    nothing = "an input is missing" if norm is not None and norm.is_rms else "not an RMSNorm"
    return "; ".join(miss.reason for miss in result.near_misses) or nothing


def _dtype(value: ir.Value | None, facts: Facts) -> ir.DataType | None:
    return None if value is None else facts.dtype(value)


def _name(dtype: ir.DataType | None) -> str | None:
    return None if dtype is None else ELEMENT_NAMES.get(dtype, dtype.name.lower())


def _rounding(op: Op, dtype: ir.DataType | None, *, before_scale: bool) -> Rounding | None:
    """The order of rounding; float32 has one only."""
    if dtype == ir.DataType.FLOAT:
        return None
    if op.is_reciprocal and before_scale:
        return "reciprocal"
    return "before scale" if before_scale else "once"


def _scale(value: ir.Value | None, facts: Facts) -> str:
    name = _name(_dtype(value, facts))
    if value is None or name is None:
        return "none" if value is None else "unknown"
    shape = facts.likely_shape(value)
    dims = "?" if shape is None else ", ".join("?" if dim is None else str(dim) for dim in shape)
    return f"{name}[{dims}]"


def _block_size(inputs: Iterable[ir.Value | None], axes: tuple[int, ...], facts: Facts) -> int | None:
    """Number of elements normalised over, where one of `inputs` has all dims of the block static."""
    for value in inputs:
        shape = None if value is None else facts.likely_shape(value)
        if shape is None:
            continue
        size = 1
        for axis in axes:
            dim = shape[axis] if -len(shape) <= axis < len(shape) else None
            if not isinstance(dim, int):
                break
            size *= dim
        else:
            return size
    return None
