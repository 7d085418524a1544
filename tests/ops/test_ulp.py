"""The distance in units in the last place."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rms_deploy.errors import InputError
from rms_deploy.ops.ulp import ulp_distance

FAR = np.iinfo(np.int64).max
finite16 = st.floats(width=16, allow_nan=False, allow_infinity=False)


@given(finite16)
def test_neighbour_is_one_away(value: float) -> None:
    a = np.array([value], np.float16)
    b = np.nextafter(a, np.float16(np.inf))
    if np.isfinite(b):
        # -0 equals +0, so the step from zero lands on the first subnormal.
        assert ulp_distance(a, b) == 1
        assert ulp_distance(b, a) == 1


@given(finite16, finite16, finite16)
def test_is_additive_along_the_line(a: float, b: float, c: float) -> None:
    low, middle, high = np.sort(np.array([a, b, c], np.float16))
    first, second = (ulp_distance(np.array([p]), np.array([q])) for p, q in ((low, middle), (middle, high)))
    assert ulp_distance(np.array([low]), np.array([high])) == first + second


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_special_values(dtype: type) -> None:
    nan, inf = np.nan, np.inf
    actual = np.array([0.0, nan, inf, -inf, nan, inf, -1.0], dtype)
    expected = np.array([-0.0, nan, inf, inf, 1.0, 1.0, 1.0], dtype)
    distance = ulp_distance(actual, expected)
    assert list(distance[:3]) == [0, 0, 0]
    assert distance[3] > 0
    assert list(distance[4:6]) == [FAR, FAR]
    assert distance[6] > 0


def test_counts_through_bfloat16() -> None:
    one = np.array([1.0], ml_dtypes.bfloat16)
    assert ulp_distance(one, np.array([1.0 + 3 * 2**-7], ml_dtypes.bfloat16)) == 3


def test_refuses_what_cannot_be_compared() -> None:
    with pytest.raises(InputError, match=r"cannot compare float32 \[2\] with float16 \[2\]"):
        ulp_distance(np.zeros(2, np.float32), np.zeros(2, np.float16))


def test_codes() -> None:
    """-0 is 0 in float8 too; its largest number is 448, and the one before it 416."""
    one, other = np.array([-128, -1, 0, 127], np.int8), np.array([127, 1, 1, 127], np.int8)
    assert ulp_distance(one, other).tolist() == [255, 2, 1, 0]
    one, other = (np.array(v, ml_dtypes.float8_e4m3fn) for v in ([-0.0, 448, -448, np.nan], [0, 416, -416, np.nan]))
    assert ulp_distance(one, other).tolist() == [0, 1, 1, 0]
