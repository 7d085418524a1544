"""The interpreter's arithmetic against exact numbers."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from rms_deploy.ops.ulp import ulp_distance

from . import arithmetic


def test_a_fused_product_and_sum_is_rounded_once():
    """Also where the sum lies half way between two float32, up to less than float64 holds."""
    generator = np.random.default_rng(0)
    a, b, c = (generator.standard_normal(2000).astype(np.float32) for _ in range(3))
    c[1000:] = -(a * b)[1000:]  # what is left is the rounding error of the product
    a[0], b[0], c[0] = 1 + 2.0**-12, 1 + 2.0**-12, 2.0**-60
    a[1], b[1], c[1] = 1 + 2.0**-23, 1 + 2.0**-23, -(2.0**-80)
    for x, y, z, result in zip(a, b, c, arithmetic.fused(a, b, c), strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        neighbours = [float(np.nextafter(result, np.float32(side))) for side in (-np.inf, np.inf)]
        assert all(abs(Fraction(float(result)) - exact) <= abs(Fraction(other) - exact) for other in neighbours)


def test_a_fused_product_and_sum_is_rounded_down():
    generator = np.random.default_rng(0)
    a, b, c = (generator.standard_normal(2000).astype(np.float32) for _ in range(3))
    a[0], b[0], c[0] = 3, 4, -2  # exact
    for x, y, z, result in zip(a, b, c, arithmetic.fused(a, b, c, "rm"), strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        assert Fraction(float(result)) <= exact < Fraction(float(np.nextafter(result, np.float32(np.inf))))


def test_a_fused_product_and_sum_of_no_numbers():
    one = np.ones(3, np.float32)
    with np.errstate(all="ignore"):
        result = arithmetic.fused(one, np.array([np.inf, np.nan, 3e38], np.float32), np.array([1, 1, 3e38], np.float32))
    assert np.array_equal(result, [np.inf, np.nan, np.inf], equal_nan=True)


@pytest.mark.parametrize(
    ("approximate", "exact", "ulp"),
    [(arithmetic.approximate_power_of_two, np.exp2, 2), (arithmetic.approximate_reciprocal, np.reciprocal, 1)],
)
def test_an_approximation_is_off_by_so_many_units(approximate, exact, ulp):
    a = np.random.default_rng(0).uniform(0.5, 120, 1000).astype(np.float32)
    nearest = exact(a.astype(np.float64)).astype(np.float32)
    distance = ulp_distance(approximate(a), nearest)
    assert set(distance) == {ulp}


def test_approximations_of_no_numbers():
    values = np.array([0, np.inf, -np.inf, np.nan, -140], np.float32)
    with np.errstate(all="ignore"):
        powers = arithmetic.approximate_power_of_two(values)
        reciprocals = arithmetic.approximate_reciprocal(np.array([1, np.inf, -np.inf, np.nan, 2.0**127], np.float32))
    assert np.array_equal(powers, [1, np.inf, 0, np.nan, 0], equal_nan=True)
    assert np.array_equal(reciprocals, [1, 0, 0, np.nan, 0], equal_nan=True)
    saturated = arithmetic.saturated(np.array([-1, 0.25, 2, np.nan, np.inf], np.float32))
    assert saturated.tolist() == [0, 0.25, 1, 0, 1]


@pytest.mark.parametrize(("half", "dtype"), [("f16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_halves_there_and_back(half, dtype):
    bits = np.arange(65536, dtype=np.uint16)
    with np.errstate(invalid="ignore"):
        wide = arithmetic.converted(bits, half, "f32")
        back = arithmetic.converted(wide, "f32", half)
    assert np.array_equal(wide, bits.view(dtype).astype(np.float32), equal_nan=True)
    number = ~np.isnan(wide)
    assert np.array_equal(back[number], bits[number])
    assert (back[~number] == arithmetic.NAN_OF_HALF).all()


def test_integers():
    a, b = np.array([7, -7, 7, -7], np.int64), np.array([2, 2, -2, -2], np.int64)
    assert arithmetic.divided(a, b).tolist() == [3, -3, -3, 3]
    assert arithmetic.OF_TWO["rem"](a, b).tolist() == [1, -1, 1, -1]
    assert arithmetic.product(np.int32([-3]), np.int32([2**30]), "wide").tolist() == [-3 * 2**30]
    assert arithmetic.product(np.uint32([2**31]), np.uint32([6]), "hi").tolist() == [3]
    with np.errstate(all="ignore"):
        assert arithmetic.product(np.uint32([2**31 + 1]), np.uint32([6]), "lo").tolist() == [6]


def test_shifts_past_the_end():
    count = np.array([1, 31, 32, 200], np.uint32)
    value = np.full(4, 0x80000001, np.uint32)
    assert arithmetic.shifted(value, count, left=True).tolist() == [2, 0x80000000, 0, 0]
    assert arithmetic.shifted(value, count, left=False).tolist() == [0x40000000, 1, 0, 0]
    assert arithmetic.shifted(value.view(np.int32), count, left=False).tolist() == [-0x40000000, -1, -1, -1]


def test_a_funnel_shift():
    low, high = np.uint32([0x33221100]), np.uint32([0x77665544])
    assert arithmetic.funnel_shifted(low, high, np.uint32([16]), ("r", "wrap")).tolist() == [0x55443322]
    assert arithmetic.funnel_shifted(low, high, np.uint32([32]), ("r", "wrap")).tolist() == [0x33221100]


def test_bits_are_inserted():
    bits, into, start, count = (np.array([value], np.uint32) for value in (0xFFFFFFF5, 0xFF, 4, 30))
    assert arithmetic.inserted(bits, into, start, count)[0] == 0xFFFFFF5F
    assert arithmetic.inserted(bits, into, start, np.array([3], np.uint32))[0] == 0xDF


def test_bytes_are_permuted():
    a, b = np.uint32([0x33221100]), np.uint32([0x77665544])
    assert arithmetic.permuted(a, b, np.uint32([0x7610])).tolist() == [0x77661100]
    assert arithmetic.permuted(a, b, np.uint32([0x5432])).tolist() == [0x55443322]


@pytest.mark.parametrize(
    ("how", "expected"),
    [("lt", [1, 0, 0, 0]), ("ltu", [1, 0, 0, 1]), ("ge", [0, 1, 1, 0]), ("geu", [0, 1, 1, 1]), ("ne", [1, 0, 1, 0]),
     ("neu", [1, 0, 1, 1]), ("num", [1, 1, 1, 0]), ("nan", [0, 0, 0, 1])],
)  # fmt: skip
def test_comparisons_with_nan(how, expected):
    assert arithmetic.compared(how, np.float32([1, 2, 3, np.nan]), np.float32(2)).astype(int).tolist() == expected
