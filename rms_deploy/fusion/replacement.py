"""The node of our domain that says what a derivation recognised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from rms_deploy.fusion.grammar import ELEMENT_NAMES, Derivation, Facts, label
from rms_deploy.fusion.norm import Norm, place_of
from rms_deploy.ops.contract import ELEMENT_TYPES, OPS

__all__ = ["NATIVE_OPS", "Emission", "emission", "explicit_attributes"]

NATIVE_OPS = ("RMSNormalization", "SimplifiedLayerNormalization")

_Attribute = int | float | tuple[int, ...]


@dataclass(frozen=True)
class Emission:
    """An op of the contract, its inputs and its attributes; `scale` None is a scale of one."""

    op_type: str
    x: ir.Value
    scale: ir.Value | None
    dtype: ir.DataType
    """Type of X and Y."""
    attributes: dict[str, _Attribute]

    def needs_cast(self, facts: Facts) -> bool:
        """Whether X must be cast to the type of the op first."""
        return facts.dtype(self.x) != self.dtype

    def scale_needs_cast(self, facts: Facts) -> bool:
        """Whether scale must be cast to float32 first."""
        return self.scale is not None and facts.dtype(self.scale) not in (self.dtype, ir.DataType.FLOAT)

    def described(self, found: Derivation, facts: Facts) -> Norm:
        """As `inspect` lists it before it is fused."""
        name = ELEMENT_NAMES[self.dtype]
        scale = self.scale
        shape = None if scale is None else facts.shape(scale)
        dtype = None if scale is None else facts.dtype(scale)
        rounding: Literal["once", "before scale"] = "before scale" if found.rounds_before_scale else "once"
        return Norm(
            kind=self.op_type,
            form="native"
            if found.anchor.op_type.endswith(("RMSNormalization", "LayerNormalization"))
            else "decomposed",
            node=label(found.anchor),
            place=place_of(found.anchor),
            dtype=name,
            axes=found.axes,
            n=found.n,
            epsilon=found.epsilon or 0.0,
            rms_epsilon=found.rms_epsilon or 0.0,
            rms_min=found.rms_min or 0.0,
            partial_size=found.partial_size,
            rounding=None if name == "float32" else rounding,
            scale="none" if dtype is None else f"{ELEMENT_NAMES.get(dtype, dtype.name)}{list(shape or ())}",
        )


def emission(found: Derivation, facts: Facts) -> Emission:
    """The op for `found`, which is a norm without doubt.

    1. The value was rounded to the type of x: the op works on x as it came, before it was cast to float32.
    2. It was not: the op works in float32, on x cast to it.
    A scale that was only cast up from the type of x is taken as it was.
    """
    origin = facts.origin(found.x)
    dtype = (facts.dtype(origin) if found.is_narrow else None) or ir.DataType.FLOAT
    x = found.x if facts.dtype(found.x) == dtype != facts.dtype(origin) else origin
    scale = found.scale
    if scale is not None and facts.dtype(facts.origin(scale)) in (dtype, ir.DataType.FLOAT):
        scale = facts.origin(scale)
    attributes: dict[str, _Attribute] = {
        "axes": found.axes,
        "epsilon": found.epsilon or 0.0,
        "rms_epsilon": found.rms_epsilon or 0.0,
        "rms_min": found.rms_min or 0.0,
        "scale_type": int(dtype) if found.rounds_before_scale else ELEMENT_TYPES["float32"],
    }
    if found.partial_size is None:
        return Emission("RMSNorm", x, scale, dtype, attributes)
    return Emission("PartialRMSNorm", x, scale, dtype, {**attributes, "partial_size": found.partial_size})


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
