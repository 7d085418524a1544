"""Distances between results."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from rms_deploy.errors import InputError
from rms_deploy.verification.difference import TIPPED, difference, is_near
from rms_deploy.verification.tolerance import tolerance_for

NAN, INF = float("nan"), float("inf")


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_equal_results_are_at_distance_0():
    same = difference(f32(1, NAN, INF, -INF, 0.0), f32(1, NAN, INF, -INF, -0.0))
    assert (same.max_abs, same.max_ulp, same.relative_l2, same.nonfinite_mismatches) == (0, 0, 0, 0)
    assert (same.elements, same.finite) == (5, 2)
    assert same.within(0)


def test_distances_are_what_they_say():
    apart = difference(f32(3, 4.5), f32(3, 4))
    assert apart.max_abs == 0.5
    assert apart.relative_l2 == pytest.approx(0.5 / 5, rel=1e-15)
    assert apart.max_ulp == 0.5 / np.spacing(np.float32(4))
    assert apart.within(0.1)
    assert not apart.within(0.0999)


@pytest.mark.parametrize(("actual", "expected"), [(NAN, 1), (1, NAN), (INF, 1), (1, INF), (INF, -INF), (NAN, INF)])
def test_what_is_not_finite_must_stand_in_the_same_place(actual, expected):
    apart = difference(f32(actual, 2), f32(expected, 2))
    assert apart.nonfinite_mismatches == 1
    assert apart.relative_l2 == 0
    assert not apart.within(1e9)


def test_another_dtype_is_compared_in_float64_and_counted_in_ulps_of_the_result():
    result, expected = np.array([1.0, 2.0], np.float16), np.array([1.0 + 2**-11, 2.0], np.float32)
    apart = difference(result, expected)
    assert apart.max_abs == 2**-11
    assert apart.max_ulp == 0, "the expected number rounds to the result"


def test_a_result_that_should_be_zero_is_measured_against_the_smallest_normal_number():
    assert difference(f32(0, 0), f32(0, 0)).relative_l2 == 0
    assert difference(f32(1e-38, 0), f32(0, 0)).relative_l2 == pytest.approx(1e-38 / np.finfo(np.float32).tiny)


def test_float64_near_its_largest_number_does_not_overflow():
    assert difference(np.array([1e308, 1e308]), np.array([1e308, 0.5e308])).relative_l2 == pytest.approx(0.2**0.5)


def test_integers_and_booleans_must_be_equal():
    assert difference(np.array([1, 5]), np.array([1, 2])).max_ulp == 3
    assert not difference(np.array([True]), np.array([False])).within(tolerance_for(np.dtype(bool), 100))
    assert tolerance_for(np.dtype(np.int64), 100) == 0


def test_empty_results_are_equal_and_shapes_must_be():
    assert difference(np.zeros((0, 3)), np.zeros((0, 3))).within(0)
    with pytest.raises(InputError, match=r"the results have shapes \[2\] and \[1\]"):
        difference(np.zeros(2), np.zeros(1))


def test_many_ulps_of_an_element_near_zero_are_named_as_such():
    expected = f32(1, -1, 1e-9)
    near = difference(expected + np.float32(1e-8), expected)
    assert near.max_ulp > 1e6
    assert near.max_ulp_at == expected[2]
    assert near.rms == pytest.approx((2 / 3) ** 0.5)
    assert near.is_near_zero
    far = difference(f32(1, -1.5, 1e-9), expected)
    assert far.max_ulp_at == 1
    assert not far.is_near_zero


def test_no_element_has_no_distance():
    empty = difference(f32(), f32())
    assert (empty.max_ulp, empty.max_ulp_at, empty.rms) == (0, 0, 0)


@pytest.mark.parametrize("dtype", [np.int8, ml_dtypes.float8_e4m3fn])
def test_codes_are_near_at_one_apart(dtype):
    expected = np.array([0.0, 1.0, 2.0, -2.0] * 50, dtype)
    one, other = expected.copy(), expected.copy()
    one.view(np.int8)[0] += 1
    other.view(np.int8)[0] += 2
    found = difference(one, expected)
    assert (found.max_ulp, found.unequal) == (1, 1)
    assert is_near(found, one.dtype, 0.0)
    assert not is_near(difference(other, expected), other.dtype, 1.0)


def test_few_codes_may_differ_where_a_share_is_given():
    expected = np.zeros(200, np.int8)
    actual = np.array([1] * 3 + [0] * 197, np.int8)
    found = difference(actual, expected)
    assert is_near(found, actual.dtype, 0.0)
    assert not is_near(found, actual.dtype, 0.0, share=TIPPED)
    assert is_near(difference(actual[1:], expected[1:]), actual.dtype, 0.0, share=0.011)


@pytest.mark.parametrize(("dtype", "passed"), [(np.float32, True), (np.int64, False), (np.uint8, False)])
def test_others_are_near_within_the_limit_or_equal(dtype, passed):
    found = difference(np.array([100, 1], dtype), np.array([101, 1], dtype))
    assert found.unequal == 1
    assert is_near(found, np.dtype(dtype), 0.01) is passed
