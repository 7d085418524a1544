"""The reference against exact rational arithmetic and the properties that the paper proves."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from rms_deploy.errors import InputError
from rms_deploy.ops import reference

rng = np.random.default_rng(0)


def test_by_hand() -> None:
    # mean((3, 4)^2) = 12.5; epsilon 3.5 makes the root 4; + 1 = 5; the floor of 10 then halves the result.
    x, scale = np.array([[3.0, 4.0]]), np.array([10.0, 5.0])
    options = {"epsilon": 3.5, "rms_epsilon": 1.0}
    np.testing.assert_array_equal(reference.rms_norm(x, scale, **options), [[6.0, 4.0]])
    np.testing.assert_array_equal(reference.rms_norm(x, scale, **options, rms_min=10.0), [[3.0, 2.0]])


def test_against_rational_arithmetic() -> None:
    x = rng.normal(size=(1, 37))
    mean_square = sum(Fraction(v) ** 2 for v in x[0]) / 37
    exact = [float(Fraction(v) / Fraction(float(mean_square) ** 0.5)) for v in x[0]]
    # float64: one rounding each for the root, its square's mean and the quotient.
    np.testing.assert_allclose(reference.rms_norm(x, epsilon=0)[0], exact, rtol=4 * np.finfo(np.float64).eps)


@pytest.mark.parametrize("factor", [1e-3, 0.7, 2.0, 1e4])
def test_rescaling_invariance(factor: float) -> None:
    """Paper, section 3: RMSNorm(a x) = RMSNorm(x) for a > 0, with epsilon 0."""
    x = rng.normal(size=(3, 64))
    np.testing.assert_allclose(
        reference.rms_norm(factor * x, epsilon=0), reference.rms_norm(x, epsilon=0), rtol=4 * np.finfo(np.float64).eps
    )


def test_partial_is_over_the_first_elements_in_row_major_order() -> None:
    x = rng.normal(size=(2, 3, 4))
    y = reference.rms_norm(x, axes=(1, 2), partial_size=5, epsilon=0)
    flat = x.reshape(2, 12)
    expected = flat / np.sqrt(np.mean(flat[:, :5] ** 2, axis=1, keepdims=True))
    np.testing.assert_allclose(y.reshape(2, 12), expected, rtol=1e-15)


def test_inner_axis() -> None:
    x = rng.normal(size=(2, 3, 4))
    y = reference.rms_norm(x, np.full((3, 1), 2.0), axes=[1], epsilon=0)
    np.testing.assert_allclose(
        y, 2 * np.swapaxes(reference.rms_norm(np.swapaxes(x, 1, 2), epsilon=0), 1, 2), rtol=1e-15
    )


def test_the_two_rounding_orders_differ_in_half_precision() -> None:
    x = rng.normal(size=(8, 256)).astype(ml_dtypes.bfloat16)
    scale = rng.normal(size=256).astype(ml_dtypes.bfloat16)
    once, first = (reference.rms_norm(x, scale, round_before_scale=order) for order in (False, True))
    assert once.dtype == first.dtype == x.dtype
    assert 0.1 < np.mean(once != first) < 0.5


def test_a_reciprocal_that_is_rounded() -> None:
    # The root is 3: in bfloat16 1/3 is 171/512, and 5 * 171/512 is nearest to 214/128; 5/3 is nearest to 213/128.
    x = np.array([[3.0, 3.0, 5.0]], ml_dtypes.bfloat16)
    options = {"partial_size": 2, "epsilon": 0, "round_before_scale": True}
    scale = np.ones(3, ml_dtypes.bfloat16)
    y = reference.rms_norm(x, scale, round_reciprocal=True, **options)
    assert y.astype(float)[0, 2] == 214 / 128
    assert reference.rms_norm(x, scale, **options).astype(float)[0, 2] == 213 / 128
    wide, ones = x.astype(np.float32), np.ones(3, np.float32)
    same = reference.rms_norm(wide, ones, round_reciprocal=True, **options)
    np.testing.assert_array_equal(same, reference.rms_norm(wide, ones, **options))


def test_add_rounds_the_sum_before_the_statistics() -> None:
    x, r = (np.array([[v, 1.0]], np.float16) for v in (2048.0, 1.0))
    y, total = reference.add_rms_norm(x, r, epsilon=0)
    assert total.tolist() == [[2048.0, 2.0]]  # 2049 is no float16
    np.testing.assert_array_equal(y, reference.rms_norm(total, epsilon=0))


def test_zero_rows_follow_the_formula() -> None:
    x = np.zeros((1, 4), np.float32)
    assert np.isnan(reference.rms_norm(x, epsilon=0)).all()
    np.testing.assert_array_equal(reference.rms_norm(x), x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axes": [2]}, "axes: 2 is out of range for a tensor of rank 2; use -2 to 1"),
        ({"partial_size": 5}, r"partial_size: 5 is not in 1 ... 4"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        reference.rms_norm(np.zeros((2, 4)), **options)


def test_a_gate_before_and_after_the_norm() -> None:
    """As Mamba2 and Qwen3-Next write them, in float64."""
    x, z, scale = rng.normal(size=(3, 16)), rng.normal(size=(3, 16)), rng.normal(size=16)
    silu = z / (1 + np.exp(-z))
    gated = x * silu
    before = scale * gated / np.sqrt(np.mean(gated**2, -1, keepdims=True) + 1e-6)
    after = scale * x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-6) * silu
    np.testing.assert_allclose(reference.gated_rms_norm(x, z, scale, before=True), before, rtol=1e-14)
    np.testing.assert_allclose(reference.gated_rms_norm(x, z, scale), after, rtol=1e-14)
    sigmoid = reference.gated_rms_norm(x, z, scale, gate="SigmoidGate")
    np.testing.assert_allclose(sigmoid * z, after, rtol=1e-13, atol=1e-15)


def test_a_gate_behind_a_rounded_norm_rounds_again() -> None:
    x, z, scale = (rng.normal(size=size).astype(np.float16) for size in ((8, 64), (8, 64), 64))
    silu = z.astype(np.float64) / (1 + np.exp(-z.astype(np.float64)))
    rounded = reference.rms_norm(x, scale, round_before_scale=True).astype(np.float64)
    y = reference.gated_rms_norm(x, z, scale, round_before_scale=True)
    assert y.tobytes() == (rounded * silu).astype(np.float16).tobytes()
    assert np.mean(y != reference.gated_rms_norm(x, z, scale)) > 0.1
