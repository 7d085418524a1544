"""Upcast: the same numbers in a wider type, whatever holds them."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.upcast import Upcast
from rms_deploy.ops import reference
from rms_deploy.ops.functions import attach_functions
from rms_deploy.ops.nodes import norm_nodes
from rms_deploy.runtime import onnxruntime_session as runtime

WIDE = {ir.DataType.FLOAT: np.float32, ir.DataType.DOUBLE: np.float64}


def parse(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]> {text}'))


def upcast(model: ir.Model, to: ir.DataType, feeds: dict[str, np.ndarray], library: bool = False) -> np.ndarray:
    """The result of the upcast model, which must be valid, wide throughout, and stay as it is the second time."""
    assert Upcast(to)(model).modified
    assert not Upcast(to)(model).modified
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    session = runtime.session(proto, optimize=False, library=library)
    assert {v.type for v in (*session.get_inputs(), *session.get_outputs())} <= {
        {ir.DataType.FLOAT: "tensor(float)", ir.DataType.DOUBLE: "tensor(double)"}[to],
        "tensor(int64)",
    }
    wide = {name: a if a.dtype == np.int64 else a.astype(WIDE[to]) for name, a in feeds.items()}
    return runtime.run(session, wide)["y"]


@pytest.mark.parametrize("to", WIDE)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_nothing_is_rounded_to_the_narrow_type(to, dtype):
    """A third has no short form in any of them: one rounding to float16 is off by 1e-4, one to float32 by 1e-8."""
    code = {"float16": 10, "bfloat16": 16}[dtype]
    model = parse(
        f"g ({dtype}[2] x, int64[2] n) => ({dtype}[2] y) <float three = {{3}}, int64 one = {{1}}> {{"
        f" t = Cast<to={code}>(three) a = Div(x, t) b = Cast<to=1>(a) c = Cast<to={code}>(b)"
        f" m = Cast<to={code}>(n) d = Add(c, m)"
        " i = Cast<to=9>(one)"
        f" y = If(i) <then_branch = p () => ({dtype}[2] u) {{ u = Identity(d) }},"
        f" else_branch = q () => ({dtype}[2] v) {{ v = Neg(d) }}> }}"
    )
    y = upcast(model, to, {"x": np.array([1.0, 2.0]), "n": np.array([1, 2])})
    np.testing.assert_allclose(y, [4 / 3, 8 / 3], rtol=2 * np.finfo(WIDE[to]).eps)


def test_tensors_and_floats_in_attributes_are_converted():
    model = parse(
        "g (float16[2] x, int64[1] n) => (float16[2] y) {"
        " half = Constant<value = float16 {14336}>()"  # the bits of 0.5
        " filled = ConstantOfShape<value = float16[1] {14336}>(n)"
        " third = Constant<value_float = 3.0>() thirds = Constant<value_floats = [3.0, 6.0]>()"
        " z = Cast<to=10>(third) zs = Cast<to=10>(thirds)"
        " a = Mul(x, half) b = Mul(a, filled) c = Div(b, z) y = Div(c, zs) }"
    )
    y = upcast(model, ir.DataType.DOUBLE, {"x": np.array([1.0, 1.0]), "n": np.array([1])})
    np.testing.assert_allclose(y, [1 / 36, 1 / 72], rtol=1e-15)


def test_a_constant_of_a_shape_without_a_value_is_a_zero_of_float32():
    """The initial state of a recurrent model: float32 beside what became float64 would not load."""
    model = parse("g (float[2] x, int64[1] n) => (float[2] y) { zeros = ConstantOfShape(n) y = Add(x, zeros) }")
    y = upcast(model, ir.DataType.DOUBLE, {"x": np.array([0.1, 0.2]), "n": np.array([2])})
    np.testing.assert_array_equal(y, [0.1, 0.2])


@pytest.mark.parametrize("to", WIDE)
@pytest.mark.parametrize("library", [False, True])
def test_our_ops_compute_the_formula_in_the_wide_type(to, library):
    """With `scale_type` of the narrow type: the upcast model no longer rounds before it scales."""
    rng = np.random.default_rng(0)
    x, scale = (rng.standard_normal(shape).astype(np.float16) for shape in ((3, 8), (8,)))
    model = parse(
        "g (float16[3,8] x, float16[8] s) => (float16[3,8] y) { y = rms_deploy.RMSNorm<scale_type=10>(x, s) }"
    )
    attach_functions(model)
    y = upcast(model, to, {"x": x, "s": scale}, library)
    assert len(list(norm_nodes(model))) == (to == ir.DataType.FLOAT)
    expected = reference.rms_norm(x.astype(np.float64), scale, epsilon=float(np.float32(1e-6)))
    # Six roundings of the wide type, each of half an eps at most.
    np.testing.assert_allclose(y, expected, rtol=3 * np.finfo(WIDE[to]).eps)


def test_weights_are_converted_when_they_are_read():
    model = parse("g (float16[2] x) => (float16[2] y) <float16[2] w = {15360, 16384}> { y = Mul(x, w) }")
    np.testing.assert_array_equal(upcast(model, ir.DataType.FLOAT, {"x": np.array([1.5, 2.5])}), [1.5, 5.0])


def test_a_wide_model_is_left_alone():
    model = parse("g (float[2] x) => (float[2] y) { y = Neg(x) }")
    assert not Upcast(ir.DataType.FLOAT)(model).modified
    assert model.graph.inputs[0].dtype == ir.DataType.FLOAT
