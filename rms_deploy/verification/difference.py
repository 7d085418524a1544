"""How far one result is from another, and how far it may be."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rms_deploy.errors import InputError
from rms_deploy.ops.element_types import float_info, is_float, is_quantized
from rms_deploy.ops.ulp import ulp_distance

__all__ = ["TIPPED", "Difference", "difference", "is_near"]

TIPPED: Final = 0.01
"""Of quantised elements, in float64: those that an op in float32 may round across a boundary. There are far fewer, and
a formula that is off by a hundredth changes every second code of fifty."""

_NEAR_ZERO: Final = 100
"""How much smaller than the root mean square an element near zero is."""


@dataclass(frozen=True)
class Difference:
    """Result `a` against result `e`, elementwise. The norms are over the elements that are finite in both."""

    elements: int
    max_abs: float
    """max |a - e|"""
    max_ulp: int
    """Largest number of representable values between a and e: codes of what is quantised; for other integers and
    booleans, max |a - e|."""
    max_ulp_at: float
    """|e| of the element with max_ulp."""
    rms: float
    """Root of the mean square of e."""
    relative_l2: float
    """||a - e|| / ||e||; where e is all zero, ||a|| / smallest normal number."""
    nonfinite_mismatches: int
    """Elements that are NaN or infinite in one and not the same in the other."""
    finite: int
    """Elements that are finite in both."""
    unequal: int = 0
    """Elements that are not the same."""

    def within(self, tolerance: float) -> bool:
        """Whether relative_l2 is at most `tolerance` and NaN and infinity stand in the same places."""
        return self.nonfinite_mismatches == 0 and self.relative_l2 <= tolerance

    @property
    def is_near_zero(self) -> bool:
        """Whether max_ulp is that of an element near zero: of 1 / 100 of the root mean square or less.

        There one unit in the last place is tiny. Rounding of ordinary size, as in a sum of large numbers, is millions.
        """
        return self.max_ulp_at <= self.rms / _NEAR_ZERO

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def difference(actual: NDArray[Any], expected: NDArray[Any]) -> Difference:
    """Compare two results of one shape; differing float dtypes are compared in float64, ulps in that of `actual`.

    Raises:
        InputError: the shapes differ.
    """
    if actual.shape != expected.shape:
        raise InputError(f"the results have shapes {list(actual.shape)} and {list(expected.shape)}; they must be equal")
    a, e = actual.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    finite = np.isfinite(a) & np.isfinite(e)
    same = finite | (np.isnan(a) & np.isnan(e)) | (a == e)
    size = _norm(e[finite])
    max_ulp, max_ulp_at = _max_ulp(actual.ravel()[finite], expected.ravel()[finite])
    delta = np.abs(np.subtract(a, e, where=finite, out=np.zeros_like(a)))
    return Difference(
        elements=a.size,
        max_abs=float(delta.max(initial=0.0)),
        max_ulp=max_ulp,
        max_ulp_at=max_ulp_at,
        rms=size / math.sqrt(max(1, int(np.count_nonzero(finite)))),
        relative_l2=_relative_l2(delta[finite], size, actual.dtype),
        nonfinite_mismatches=int(np.count_nonzero(~same)),
        finite=int(np.count_nonzero(finite)),
        unequal=int(np.count_nonzero(~same | (delta != 0))),
    )


def is_near(found: Difference, dtype: np.dtype[Any], limit: float, *, share: float = 1.0) -> bool:
    """Whether a result is near enough: a float within `limit`, a code at most one apart, anything else equal.

    Args:
        found: the difference.
        dtype: of the result.
        limit: largest relative L2 difference of floats.
        share: of the elements, the largest that may be another code.
    """
    if is_quantized(dtype):
        is_one_apart = found.nonfinite_mismatches == 0 and found.max_ulp <= 1
        return is_one_apart and found.unequal <= max(1, share * found.elements)
    return found.within(limit if is_float(dtype) else 0.0)


def _max_ulp(actual: NDArray[Any], expected: NDArray[Any]) -> tuple[int, float]:
    """Of finite elements; and |e| there."""
    if not actual.size:
        return 0, 0.0
    if is_float(actual.dtype) or is_quantized(actual.dtype):
        with np.errstate(over="ignore"):
            distance = ulp_distance(actual, expected.astype(actual.dtype))
    else:
        distance = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    largest = int(distance.argmax())
    return int(distance[largest]), abs(float(expected[largest]))


def _relative_l2(delta: NDArray[np.float64], size: float, dtype: np.dtype[Any]) -> float:
    if size == 0.0:
        size = float_info(dtype).smallest_normal if is_float(dtype) else 1.0
    return _norm(delta) / size


def _norm(values: NDArray[np.float64]) -> float:
    """The 2-norm, without overflow for float64 results near their largest number."""
    largest = float(np.abs(values).max(initial=0.0))
    return largest * float(np.linalg.norm(values / largest)) if largest else 0.0
