"""The node of our domain that says what a match recognised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from rms_deploy.fusion.grammar.match import Match
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.contract import ELEMENT_TYPES, OPS, PARTIAL_RMS_NORM, RMS_NORM, reciprocal

__all__ = ["Replacement", "explicit_attributes", "replacement_for"]

_Attribute = int | float | tuple[int, ...]


@dataclass(frozen=True)
class Replacement:
    """An op of the contract, its inputs and its attributes; `scale` None is a scale of one."""

    op_type: str
    x: ir.Value
    scale: ir.Value | None
    dtype: ir.DataType
    """Type of X and Y."""
    attributes: dict[str, _Attribute]
    factor: ir.Value | None = None
    """What Y is multiplied by afterwards."""

    def needs_cast(self, facts: Facts) -> bool:
        """Whether X must be cast to the type of the op first."""
        return facts.dtype(self.x) != self.dtype

    def scale_needs_cast(self, facts: Facts) -> bool:
        """Whether scale must be cast to float32 first."""
        return self.scale is not None and facts.dtype(self.scale) not in (self.dtype, ir.DataType.FLOAT)


def replacement_for(match: Match, facts: Facts) -> Replacement:
    """The op for `match`, which is a norm without doubt.

    1. The value was rounded to the type of x: the op works on x as it came, before it was cast to float32.
    2. It was not: the op works in float32, on x cast to it.
    A scale that was only cast up from the type of x is taken as it was.
    """
    origin = facts.origin(match.x)
    dtype = (facts.dtype(origin) if match.is_narrow else None) or ir.DataType.FLOAT
    x = match.x if facts.dtype(match.x) == dtype != facts.dtype(origin) else origin
    scale = match.scale
    if scale is not None and facts.dtype(facts.origin(scale)) in (dtype, ir.DataType.FLOAT):
        scale = facts.origin(scale)
    attributes: dict[str, _Attribute] = {
        "axes": match.axes,
        "epsilon": match.epsilon or 0.0,
        "rms_epsilon": match.rms_epsilon or 0.0,
        "rms_min": match.rms_min or 0.0,
        "scale_type": int(dtype) if match.rounds_before_scale or match.rounds_reciprocal else ELEMENT_TYPES["float32"],
    }
    op = RMS_NORM if match.partial_size is None else PARTIAL_RMS_NORM
    if match.rounds_reciprocal:
        op = reciprocal(op)
    if match.partial_size is None:
        return Replacement(op.name, x, scale, dtype, attributes, match.factor)
    return Replacement(op.name, x, scale, dtype, {**attributes, "partial_size": match.partial_size})


def explicit_attributes(op_type: str, attributes: dict[str, _Attribute]) -> list[ir.Attr]:
    """Those that differ from the contract's default, compared as the float32 that an attribute holds."""
    defaults = OPS[op_type].defaults()
    return [
        ir.convenience.convert_attribute(name, value)
        for name, value in attributes.items()
        if name not in defaults or not _same_float32(value, defaults[name])
    ]


def _same_float32(a: _Attribute, b: _Attribute) -> bool:
    return np.array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32))
