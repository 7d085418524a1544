"""The distance between two results in units in the last place, or in codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rms_deploy.errors import InputError

__all__ = ["ulp_distance"]


def _ordered(values: NDArray[Any]) -> NDArray[np.int64]:
    """Map floats to integers such that neighbouring floats are neighbouring integers and -0 equals +0."""
    bits = values.view(f"i{values.dtype.itemsize}").astype(np.int64)
    lowest = np.int64(-(2 ** (8 * values.dtype.itemsize - 1)))
    return np.where(bits < 0, lowest - bits, bits)


def ulp_distance(actual: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.int64]:
    """Number of representable values between each pair: 0 = equal, 1 = neighbours. Of integers, their difference.

    Two NaNs are at distance 0; a NaN against a number, or an infinity against a finite value, is at the largest int64.

    Args:
        actual: float16, bfloat16, float32, float64, float8_e4m3fn or int8, any shape.
        expected: the same dtype and shape.

    Raises:
        InputError: the dtypes or the shapes differ.
    """
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        raise InputError(
            f"cannot compare {actual.dtype} {list(actual.shape)} with {expected.dtype} {list(expected.shape)}; "
            "both need one dtype and one shape"
        )
    if np.issubdtype(actual.dtype, np.integer):
        return np.abs(actual.astype(np.int64) - expected.astype(np.int64))
    if actual.dtype.itemsize == 8:  # the difference of two float64 orders can exceed int64
        a, e = _ordered(actual).astype(object), _ordered(expected).astype(object)
        distance = np.minimum(np.abs(a - e), np.iinfo(np.int64).max).astype(np.int64)
    else:
        distance = np.abs(_ordered(actual) - _ordered(expected))
    wide_a, wide_e = actual.astype(np.float64), expected.astype(np.float64)
    nan_a, nan_e = np.isnan(wide_a), np.isnan(wide_e)
    apart = (nan_a != nan_e) | (np.isinf(wide_a) != np.isinf(wide_e))
    distance = np.where(apart, np.iinfo(np.int64).max, distance)
    return np.where(nan_a & nan_e, 0, distance)
