"""What an instruction computes, as a function of numpy arrays: one element per thread.

As on a GPU, subnormals are kept and a root, a reciprocal and a quotient are rounded to nearest; the approximations of a
reciprocal root and of a power of two are two units in the last place off, and that of a reciprocal one, as those of a
GPU may be. A fused multiplication and addition of float32 is rounded once; that of float64, which only the second sum
uses, twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

from .program import PtxError

Array = Any

_HALVES = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}
NAN_OF_HALF = 0x7FFF  # that of a GPU


def bits_of(type_name: str) -> int:
    if type_name.endswith("x2"):
        return 32
    return 1 if type_name == "pred" else int(type_name.lstrip("bufs"))


@cache
def dtype_of(type_name: str) -> np.dtype[Any]:
    """Of a register: 16-bit floats are kept as their bits."""
    if type_name == "pred":
        return np.dtype(bool)
    bits = bits_of(type_name)
    is_float = type_name[0] == "f" and bits >= 32
    return np.dtype(f"{'f' if is_float else 'i' if type_name[0] == 's' else 'u'}{bits // 8}")


def half_of(value: Array, half: str) -> Array:
    """The bits of float32 numbers rounded to a 16-bit type."""
    bits = value.astype(_HALVES[half]).view(np.uint16)
    return np.where(np.isnan(value), np.uint16(NAN_OF_HALF), bits)


def float8_of(value: Array) -> Array:
    """The bits of float32 numbers rounded to e4m3 and saturated; a NaN is that of a GPU."""
    bits = np.clip(value, -448, 448).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    return np.where(np.isnan(value), np.uint8(0x7F), bits)


def converted(value: Array, source: str, target: str) -> Array:
    if target in _HALVES and source == "f32":
        return half_of(value, target)
    if source in _HALVES and target == "f32":
        return value.view(_HALVES[source]).astype(np.float32)
    if source[0] in "fb" and target[0] != "f":
        raise PtxError(f"a conversion from {source} to {target} is not known")
    return value.astype(dtype_of(target))


def fused(a: Array, b: Array, c: Array, rounding: str = "rn") -> Array:
    """a * b + c, rounded to nearest (rn) or down (rm).

    In float64 the product of two float32 is exact; the sum is rounded to odd, then to float32.
    """
    if rounding not in ("rn", "rm") or (rounding == "rm" and a.dtype != np.float32):
        raise PtxError(f"a rounding {rounding} of {a.dtype} is not known")
    if a.dtype != np.float32:
        return a * b + c
    product, addend = a.astype(np.float64) * b.astype(np.float64), np.broadcast_to(c, a.shape).astype(np.float64)
    total = product + addend
    back = total - product
    error = (product - (total - back)) + (addend - back)
    is_even = (total.view(np.uint64) & np.uint64(1)) == 0
    odd = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    exact = np.where(np.isfinite(total) & (error != 0) & is_even, odd, total)
    nearest = exact.astype(np.float32)
    if rounding == "rm":
        return np.where(nearest.astype(np.float64) > exact, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    return nearest


def divided(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return a / b
    quotient = abs(a) // abs(b)  # towards zero
    return np.where((a < 0) == (b < 0), quotient, -quotient).astype(a.dtype)


def shifted(a: Array, count: Array, *, left: bool) -> Array:
    bits = a.dtype.itemsize * 8
    within = np.minimum(count, bits - 1).astype(a.dtype)
    result = a << within if left else a >> within
    lost = (a >> a.dtype.type(bits - 1)) if a.dtype.kind == "i" and not left else a.dtype.type(0)
    return np.where(count >= bits, lost, result).astype(a.dtype)


def funnel_shifted(low: Array, high: Array, count: Array, how: tuple[str, ...]) -> Array:
    """The lower half of 64 bits shifted right."""
    if how != ("r", "wrap"):
        raise PtxError(f"a funnel shift of {how} is not known")
    both = low.astype(np.uint64) | high.astype(np.uint64) << np.uint64(32)
    return (both >> (count & np.uint32(31)).astype(np.uint64)).astype(np.uint32)


def product(a: Array, b: Array, part: str) -> Array:
    """Of integers: `lo`, the lower half; `wide`, all of it; `hi`, the upper half."""
    if part == "lo":
        return a * b
    if a.dtype.itemsize == 8:
        raise PtxError("a product of more than 64 bits is not known")
    wide = np.dtype(f"{a.dtype.kind}{2 * a.dtype.itemsize}")
    all_of_it = a.astype(wide) * b.astype(wide)
    return all_of_it if part == "wide" else (all_of_it >> wide.type(a.dtype.itemsize * 8)).astype(a.dtype)


def inserted(bits: Array, into: Array, start: Array, count: Array) -> Array:
    """The lowest `count` bits in the place of those from `start` on."""
    wide = np.uint64(1)
    mask = ((wide << count.astype(np.uint64)) - wide) << start.astype(np.uint64)
    moved = bits.astype(np.uint64) << start.astype(np.uint64)
    return (into.astype(np.uint64) & ~mask | moved & mask).astype(np.uint32)


def permuted(a: Array, b: Array, selector: Array) -> Array:
    """Four of the eight bytes of b and a."""
    both = a.astype(np.uint64) | b.astype(np.uint64) << np.uint64(32)
    result = np.zeros_like(both)
    for i in range(4):
        byte = selector.astype(np.uint64) >> np.uint64(4 * i) & np.uint64(7)
        result |= (both >> (byte * np.uint64(8)) & np.uint64(255)) << np.uint64(8 * i)
    return result.astype(np.uint32)


def compared(how: str, a: Array, b: Array) -> Array:
    """Of floats, `ltu` and its like are true where an operand is NaN, and `lt` false."""
    if how in ("num", "nan"):
        return (np.isnan(a) | np.isnan(b)) == (how == "nan")
    plain = _COMPARISONS[how[:2]](a, b)
    if a.dtype.kind == "f" and how == "ne":  # ordered: numpy's is not
        return plain & ~(np.isnan(a) | np.isnan(b))
    return plain | np.isnan(a) | np.isnan(b) if how.endswith("u") and len(how) == 3 else plain


def approximate_reciprocal_root(a: Array) -> Array:
    root = a.dtype.type(1) / np.sqrt(a)
    return np.nextafter(np.nextafter(root, a.dtype.type(0)), a.dtype.type(0))


def approximate_power_of_two(a: Array) -> Array:
    """2^a: exact for 0 and infinity; 0 for what would be subnormal."""
    power = np.exp2(a.astype(np.float64)).astype(a.dtype)
    below = np.nextafter(np.nextafter(power, a.dtype.type(0)), a.dtype.type(0))
    return _without_subnormals(np.where((a == 0) | (a == np.inf), power, below))


def approximate_reciprocal(a: Array) -> Array:
    """1 / a: exact for powers of two; 0 for what would be subnormal."""
    reciprocal = a.dtype.type(1) / a
    is_power = np.isinf(a) | (np.frexp(a)[0] == 0.5)
    return _without_subnormals(np.where(is_power, reciprocal, np.nextafter(reciprocal, a.dtype.type(0))))


def _without_subnormals(value: Array) -> Array:
    return np.where(abs(value) < np.finfo(value.dtype).tiny, np.copysign(value.dtype.type(0), value), value)


def saturated(value: Array) -> Array:
    """Into 0 ... 1; a NaN becomes 0."""
    return np.where(np.isnan(value), value.dtype.type(0), np.clip(value, 0, 1)).astype(value.dtype)


_COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
    "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip

OF_TWO: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add, "sub": np.subtract, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "min": np.fmin, "max": np.fmax, "div": divided, "rem": lambda a, b: a - divided(a, b) * b,
}  # fmt: skip

OF_ONE: dict[str, Callable[[Array], Array]] = {
    "neg": np.negative, "abs": np.abs, "not": np.invert, "sqrt": np.sqrt, "rcp": lambda a: a.dtype.type(1) / a,
    "rsqrt": approximate_reciprocal_root, "ex2": approximate_power_of_two, "rcp.approx": approximate_reciprocal,
}  # fmt: skip
