"""The distance that rounding explains, by dtype and depth."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.verification import tolerance
from rms_deploy.verification.difference import difference
from rms_deploy.verification.tolerance import rounding, rounding_depth, tolerance_for


def test_integers_and_booleans_have_none():
    assert tolerance_for(np.dtype(np.int64), 100) == tolerance_for(np.dtype(bool), 100) == 0


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


HALF = "a = Cast<to=10>(x) b = Exp(a) c = Exp(b) d = Cast<to=1>(c) y = Exp(d)"


@pytest.mark.parametrize(
    ("body", "upcast", "dtype", "depth"),
    [
        ("y = Exp(x)", None, np.float32, 1),
        ("y = Identity(x)", None, np.float32, 1),
        (HALF, None, np.float16, 3),
        (HALF, ir.DataType.FLOAT, np.float32, 3),
        ("y = Exp(x)", ir.DataType.FLOAT16, np.float32, 1),
    ],
)
def test_the_narrowest_type_decides_and_an_upcast_widens_it(body, upcast, dtype, depth):
    model = graph(body)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    assert rounding(model, upcast=upcast) == (np.dtype(dtype), depth)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_functions_that_double_and_double_are_not_written_out(monkeypatch):
    functions = "".join(
        f'<domain: "local", opset_import: ["" : 18, "local" : 1]> F{i} (a) => (o) '
        f"{{ t = local.F{i + 1} (a) o = local.F{i + 1} (t) }} "
        for i in range(25)
    )
    text = (
        '<ir_version: 8, opset_import: ["" : 18, "local" : 1]> g (float[2,3] x) => (float[2,3] y) { y = local.F0 (x) }'
        f'{functions} <domain: "local", opset_import: ["" : 18]> F25 (a) => (o) {{ o = Exp (a) }}'
    )
    monkeypatch.setattr(tolerance, "ShapeInferencePass", None)
    assert rounding(ir.from_proto(onnx.parser.parse_model(text)), upcast=None) == (np.dtype(np.float32), 1)
