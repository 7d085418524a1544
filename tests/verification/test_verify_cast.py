"""`verify` of a model and its cast: another float type, one formula, and a distance that rounding explains."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from rms_deploy.errors import InputError
from rms_deploy.verification.verify import verify

W = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
CODES = {"float": 1, "float16": 10, "bfloat16": 16}


def model(dtype, *, epsilon=1e-6, weight=W, scale=1.3):
    """y = RMSNorm(x W) s, its statistics in float32."""
    wide, narrow = ("", "") if dtype == "float" else ("Cast<to = 1>(h)", f"Cast<to = {CODES[dtype]}>(n)")
    body = f"""h = MatMul(x, w) c = {wide or "Identity(h)"} q = Mul(c, c) m = ReduceMean<keepdims = 1>(q, axes)
        e = Add(m, eps) r = Sqrt(e) n = Div(c, r) k = {narrow or "Identity(n)"} y = Mul(k, s)"""
    text = f"""<ir_version: 8, opset_import: ["" : 18]> g ({dtype}[b,8] x) => ({dtype}[b,8] y)
        <int64[1] axes = {{-1}}, float eps = {{{epsilon}}}> {{ {body} }}"""
    parsed = onnx.parser.parse_model(text)
    for name, array in (("w", weight), ("s", np.array(scale, np.float32))):
        tensor = onnx.helper.make_tensor(name, CODES[dtype], array.shape, array.reshape(-1).tolist())
        parsed.graph.initializer.append(tensor)
    return parsed


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounded_weights_are_no_other_formula(dtype):
    result = verify(model("float"), model(dtype), cast=True)
    assert result.passed
    assert result.formula_difference < 1e-12  # float64
    assert result.part_difference < 1e-12
    assert result.formula.endswith("both with the weights of the reference")
    assert [check.kind for check in result.worst_by_kind()] == ["normal", "outlier"]
    assert result.worst.difference.relative_l2 > 1e-5  # it was rounded


def test_the_tolerance_counts_two_roundings_for_each_operator():
    """MatMul, Cast and Mul round to float16."""
    result = verify(model("float"), model("float16"), cast=True)
    assert result.tolerance_origin == "4 eps(float16) sqrt(6 roundings in a row)"
    assert result.tolerance == pytest.approx(4 * 2**-10 * np.sqrt(6))


@pytest.mark.parametrize("change", [{"epsilon": 1e-4}, {"scale": 1.302}, {"weight": W + 0.002 * (W.max() == W)}])
def test_a_change_that_rounding_would_hide_is_found(change):
    result = verify(model("float"), model("float16", **change), cast=True)
    assert result.worst.difference.within(result.tolerance)
    assert not result.passed


def test_what_is_computed_from_rounded_weights_is_no_other_formula():
    """1 + w, rounded to float16 twice in the candidate, and the sum of the fused model, which has a name of its own."""
    texts = [
        f"""<ir_version: 8, opset_import: ["" : 18]> g ({dtype}[b,2] x) => ({dtype}[b,2] y)
        <{constants}> {{ {body} y = Mul(x, k) }}"""
        for dtype, constants, body in (
            ("float", "float[2] w = {0.6459, 0.7}, float one = {1}", "k = Add(w, one)"),
            ("float16", "float16[2] w = {14635, 14746}, float16 one = {15360}", "k = Add(w, one)"),
            ("float16", "float16[2] k = {16021, 16077}", ""),
        )
    ]
    reference, *candidates = map(onnx.parser.parse_model, texts)
    for candidate in candidates:
        assert verify(reference, candidate, cast=True).formula_difference < 1e-12


def test_a_weight_that_is_not_the_rounded_one_is_named():
    result = verify(model("float"), model("float16", scale=1.302), cast=True)
    assert "but for s, not in the reference" in result.formula


def test_without_cast_the_types_have_to_agree():
    with pytest.raises(InputError, match="input x is float32"):
        verify(model("float"), model("float16"))


def test_other_types_have_to_agree_with_it_too():
    other = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (int32[b,8] x) => (float[b,8] y) { y = Cast<to = 1>(x) }'
    )
    with pytest.raises(InputError, match="input x is float32"):
        verify(model("float"), other, cast=True)


def test_in_a_process_of_its_own():
    assert verify(model("float"), model("float16"), cast=True, timeout=300).passed


def test_an_engine_is_compared_with_the_cast_model(tmp_path):
    with pytest.raises(InputError, match="`cast` is for an ONNX model; give the cast model as the reference"):
        verify(model("float"), tmp_path / "a.engine", cast=True)
