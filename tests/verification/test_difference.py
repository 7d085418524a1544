"""Distances between results, and the distance that rounding explains."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.errors import InputError
from rms_deploy.verification.difference import difference
from rms_deploy.verification.tolerance import rounding_depth, tolerance_for

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


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("depth", [1, 16])
def test_the_tolerance_holds_a_chain_of_roundings_and_has_the_margin_it_claims(dtype, depth):
    rng = np.random.default_rng(0)

    def chain() -> np.ndarray:
        x = np.ones(4096)
        for factor in factors:  # relative errors as rounding makes them, of numbers anywhere between powers of 2
            x = x * factor * (1 + rng.uniform(-0.5, 0.5, x.size) * float(ml_dtypes.finfo(dtype).eps))
        return x

    factors = rng.uniform(0.5, 2, (depth, 4096))
    apart = difference(chain(), chain()).relative_l2
    tolerance = tolerance_for(np.dtype(dtype), depth)
    assert tolerance / 20 < apart < tolerance / 5


def graph(body: str, inputs: str = "float[2] x") -> ir.Model:
    text = f'<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]> g ({inputs}) => (float[2] y) {{ {body} }}'
    return ir.from_proto(onnx.parser.parse_model(text))


@pytest.mark.parametrize(
    ("body", "dtype", "depth"),
    [
        ("y = Identity(x)", np.float32, 0),
        ("y = Sqrt(x)", np.float32, 1),
        ("a = Sqrt(x) b = Transpose(a) c = Exp(b) d = Exp(x) y = Add(d, c)", np.float32, 3),
        ("y = rms_deploy.RMSNorm(x, x)", np.float32, 1),
        ("a = Cast<to=10>(x) b = Exp(a) c = Exp(b) d = Cast<to=1>(c) e = Exp(d) y = Exp(e)", np.float16, 3),
        ("a = Cast<to=10>(x) b = Exp(a) c = Exp(b) d = Cast<to=1>(c) e = Exp(d) y = Exp(e)", np.float32, 3),
    ],
)
def test_depth_counts_the_ops_that_round_to_the_dtype_on_the_longest_path(body, dtype, depth):
    assert rounding_depth(graph(body), np.dtype(dtype)) == depth


@pytest.mark.parametrize(("dtype", "depth"), [(ml_dtypes.bfloat16, 0), (np.float16, 0), (np.float32, 2)])
def test_an_unknown_type_is_the_narrowest_that_occurs(dtype, depth):
    model = graph("a = acme.Make() b = acme.Make() c = Mul(a, b) y = Mul(x, c)")
    assert rounding_depth(model, np.dtype(dtype)) == depth + (depth > 0)
