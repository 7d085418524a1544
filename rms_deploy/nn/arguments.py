"""Arguments of the modules, checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from rms_deploy.errors import InputError

__all__ = ["checked_axes", "checked_shape", "either", "not_negative", "partial_size_of"]


def either(name: str, value: Any, torch_name: str, torch_value: Any, default: Any) -> Any:
    """An argument that has two names."""
    if value is not None and torch_value is not None:
        raise InputError(f"{name} and {torch_name} are one argument; give one of them")
    given = torch_value if value is None else value
    return default if given is None else given


def checked_shape(shape: int | Sequence[int], name: str = "shape") -> tuple[int, ...]:
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if not sizes or any(not isinstance(size, int) or size < 1 for size in sizes):
        raise InputError(f"{name}: {shape!r} is not accepted; give a positive int, or several")
    return sizes


def checked_axes(axes: Sequence[int] | None, count: int) -> list[int]:
    chosen = list(range(-count, 0)) if axes is None else sorted(axes)
    if len(chosen) != count or chosen[-1] > -1 or chosen != list(range(chosen[0], chosen[0] + count)):
        raise InputError(f"axes: {axes!r} is not accepted; give one contiguous negative axis for each of {count} sizes")
    return chosen


def not_negative(name: str, value: float) -> float:
    if not (value >= 0 and math.isfinite(value)):
        raise InputError(f"{name}: {value!r} is not accepted; give a finite number >= 0")
    return float(value)


def partial_size_of(p: float, n: int) -> int:
    if isinstance(p, int) and not isinstance(p, bool) and 1 <= p <= n:
        return p
    if isinstance(p, float) and 0 < p <= 1:
        return math.ceil(n * Fraction(repr(float(p))))  # the decimal as written: in floats, 100 * 0.07 is above 7
    raise InputError(f"p: {p!r} is not accepted; give a fraction (a float, 0 < p <= 1) or a size (an int, 1 ... {n})")
