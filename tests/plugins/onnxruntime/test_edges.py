"""Values and shapes at the edges: huge, tiny, zero, NaN, infinite, empty; and all 16-bit numbers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from rms_deploy.ops.reference import add_rms_norm, rms_norm
from rms_deploy.ops.ulp import ulp_distance

from .one_node import assert_close, run_node, samples, weights

EPSILONS = [0.0, 1e-6]


def rows_of(magnitudes, n, dtype):
    signs = np.random.default_rng(3).uniform(-1, 1, (len(magnitudes), n))
    return (signs * np.array(magnitudes)[:, None]).astype(dtype)


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("transposed", [False, True], ids=["rows", "columns"])
def test_huge_and_tiny_rows(dtype, epsilon, transposed):
    """Sums of squares that overflow float32 or underflow to nothing, beside usual rows."""
    x = rows_of([1, 3e38, 1e30, 1e19, 1e-3, 1e-15, 1e-19, 1e-22, 1e-30, 1e-37, 1e-39, 2e-40, 2], 77, dtype)
    axes = [1]
    scale = weights((77,), "float32")
    expected = rms_norm(x, scale, epsilon=float(np.float32(epsilon)))
    if transposed:
        x, axes, scale, expected = np.ascontiguousarray(x.T), [0], scale[:, None], np.ascontiguousarray(expected.T)
    y = run_node("RMSNorm", {"X": x, "scale": scale}, epsilon=epsilon, axes=axes)["Y"]
    assert np.isfinite(y.astype(np.float32)).all()
    assert_close(y, expected)


def test_the_largest_number_everywhere():
    largest = np.finfo(np.float32).max
    x = np.full((2, 100), largest)
    assert run_node("RMSNorm", {"X": x, "scale": np.ones(1, np.float32)})["Y"].tolist() == np.ones((2, 100)).tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16], ids=["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("axes", [[1], [2]], ids=["columns", "rows"])
def test_zeros_and_values_that_are_no_numbers(dtype, axes):
    """Zero, NaN and infinity go where the formula sends them, and no further than their own row or column."""
    x = samples((7, 5, 9), "float32").astype(dtype)
    x[0] = 0
    x[1] = -0.0
    x[2, 1, 3] = np.nan
    x[3, 2, 4] = np.inf
    x[4, 2, 4] = -np.inf
    x[5, 0, 0], x[5, 4, 8] = np.nan, np.inf
    scale = weights((5, 1) if axes == [1] else (9,), "float32")
    for epsilons in ({"epsilon": 0.0}, {"epsilon": 1e-6}, {"epsilon": 0.0, "rms_min": 0.5}, {"rms_epsilon": 1.0}):
        y = run_node("RMSNorm", {"X": x, "scale": scale}, axes=axes, **epsilons)["Y"]
        exact = {name: float(np.float32(value)) for name, value in epsilons.items()}
        assert_close(y, rms_norm(x, scale, axes=axes, **exact))


def test_the_sign_of_zero_stays():
    x = np.array([[0.0, -0.0, 1.0, -1.0]], np.float32)
    y = run_node("RMSNorm", {"X": x, "scale": np.ones(1, np.float32)})["Y"]
    assert np.signbit(y).tolist() == np.signbit(x).tolist()


@pytest.mark.parametrize("axes", [[1], [2]], ids=["columns", "rows"])
@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e30])
def test_partial_statistics_see_the_first_elements_only(axes, poison):
    x = samples((2, 40, 40), "float32")
    scale = weights((40, 1) if axes == [1] else (40,), "float32")
    clean = run_node("PartialRMSNorm", {"X": x, "scale": scale}, axes=axes, partial_size=23)["Y"]
    beyond = (slice(None), slice(23, None)) if axes == [1] else (..., slice(23, None))
    x[beyond] = poison
    y = run_node("PartialRMSNorm", {"X": x, "scale": scale}, axes=axes, partial_size=23)["Y"]
    seen = (slice(None), slice(None, 23)) if axes == [1] else (..., slice(None, 23))
    assert y[seen].tobytes() == clean[seen].tobytes()
    assert_close(y, rms_norm(x, scale, axes=axes, partial_size=23, epsilon=float(np.float32(1e-6))))


def test_a_sum_that_overflows_is_infinite():
    x, r = np.full((1, 4), 60000, np.float16), np.array([[60000, 0, 0, 0]], np.float16)
    out = run_node("AddRMSNorm", {"X": x, "R": r, "scale": np.ones(1, np.float16)})
    y, total = add_rms_norm(x, r, np.ones(1, np.float16))
    assert out["Sum"].tobytes() == total.tobytes()
    assert_close(out["Y"], y)


@pytest.mark.parametrize("shape", [(0, 8), (3, 0, 8), (2, 8, 0), (4, 0)])
@pytest.mark.parametrize("op", ["RMSNorm", "AddRMSNorm"])
def test_empty_tensors(types, shape, op):
    x = np.zeros(shape, samples((1,), types[0]).dtype)
    inputs = {"X": x, **({"R": x} if op == "AddRMSNorm" else {}), "scale": weights((1,), types[1])}
    for array in run_node(op, inputs).values():
        assert (array.shape, array.dtype) == (shape, x.dtype)


def test_one_element_per_row(types):
    x, scale = samples((5, 1), types[0]), weights((1,), types[1])
    assert_close(run_node("RMSNorm", {"X": x, "scale": scale})["Y"], rms_norm(x, scale))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_every_16_bit_number_passes_unchanged(dtype):
    """x / 1 * 1: what is read is written, subnormals, infinities and NaN included."""
    values = np.arange(65536, dtype=np.uint16).view(dtype)
    x = np.concatenate([np.ones(1, dtype), values])[None]
    ones = np.ones(1, np.float32)
    y = run_node("PartialRMSNorm", {"X": x, "scale": ones}, partial_size=1, epsilon=0.0)["Y"][0, 1:]
    number = ~np.isnan(values.astype(np.float32))
    assert (y.view(np.uint16) == values.view(np.uint16))[number].all()
    assert np.isnan(y[~number].astype(np.float32)).all()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("columns", [1, 5], ids=["rows", "columns"])
def test_float32_is_rounded_to_nearest_even(dtype, columns):
    """x = 1 times scale: every number of the type, every tie between two, and their float32 neighbours."""
    bits = np.arange(65536, dtype=np.uint16)
    exact = bits.view(dtype).astype(np.float32)
    number = np.isfinite(exact)
    ordered = np.sort(exact[number])
    ties = (ordered[1:] / 2 + ordered[:-1] / 2).astype(np.float32)
    limit = float(ml_dtypes.finfo(dtype).max)
    beyond = np.array([limit * (1 + 2.0**-13), np.finfo(np.float32).max, 2.0**-149], np.float32)
    scale = np.concatenate([exact, ties, beyond, -beyond])
    with np.errstate(over="ignore", invalid="ignore"):  # of infinity and signalling NaN
        around = [np.nextafter(scale, np.float32(limit)) for limit in (np.inf, -np.inf)]
    scale = np.concatenate([scale, *around])
    x = np.ones((scale.size, columns), dtype)
    y = run_node("RMSNorm", {"X": x, "scale": scale[:, None]}, axes=[0], epsilon=0.0)["Y"]
    with np.errstate(over="ignore", invalid="ignore"):
        expected = np.repeat(scale.astype(dtype)[:, None], columns, axis=1)
    assert ulp_distance(y, expected).max() == 0
