# ruff: noqa: E501 - a graph a line
"""Each target is valid, computes the same, and comes back."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.errors import InputError
from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.unfuse import unfuse
from rms_deploy.ops import schemas
from rms_deploy.ops.forms import NormForm

TWO = "float[b,s,8] x, float[b,s,8] z"
NORM = "q = Mul (h, h) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (h, r)"
SPELLINGS = {
    "norm": (f"h = Exp (x) {NORM} y = Mul (n, scale)", {}),
    "weightless": (f"h = Exp (x) {NORM} y = Tanh (n)", {}),
    "residual": (f"h = Add (x, z) {NORM} k = Mul (n, scale) y = Sub (k, h)", {"inputs": TWO}),
    "residual of rank 4": (
        f"h = Add (x, z) {NORM} y = Mul (n, scale)",
        {"inputs": "float[b,2,s,8] x, float[b,2,s,8] z", "outputs": "float[b,2,s,8] y"},
    ),
    "partial": (
        "h = Identity (x) o = Constant <value_ints = [0]> () k = Constant <value_ints = [3]> () f = Slice (h, o, k, last) "
        + NORM.replace("(h, h)", "(f, f)")
        + " y = Mul (n, scale)",
        {},
    ),
    "epsilon outside, floor": (
        "q = Mul (x, x) m = ReduceMean (q, last) r = Sqrt (m) e = Add (r, eps) f = Max (e, floor) n = Div (x, f) y = Mul (n, scale)",
        {},
    ),
    "channels": (
        "h = Exp (x) a = Constant <value_ints = [1]> () " + NORM.replace("last", "a") + " y = Tanh (n)",
        {"inputs": "float[b,6,4,7] x", "outputs": "float[b,6,4,7] y"},
    ),
    "two axes": (
        "h = Exp (x) a = Constant <value_ints = [-2,-1]> () " + NORM.replace("last", "a") + " y = Tanh (n)",
        {"inputs": "float[b,4,7] x", "outputs": "float[b,4,7] y"},
    ),
}
_OWN = {"partial", "epsilon outside, floor", "channels"}
"""Norms that only our ops can express."""


@pytest.fixture(params=SPELLINGS)
def spelling(request):
    return request.param


@pytest.fixture
def model(spelling, build):
    body, options = SPELLINGS[spelling]
    return build(body, **options)


def ops(model):
    return [node.op_type for node in model.graph]


def near(actual, expected):
    """Sixteen roundings of float32, of the largest element: a residual may cancel."""
    for a, e in zip(actual, expected, strict=True):
        tolerance = 16 * np.finfo(np.float32).eps * max(1, np.abs(e).max())
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance)


def test_unfuse_computes_the_same_and_fuses_again(model, run, feeds_of):
    fused = fuse(model)
    primitives = unfuse(fused.model)
    assert len(primitives.norms) == 1
    proto = ir.to_proto(primitives.model)
    assert {node.domain for node in proto.graph.node} == {""}
    assert not proto.functions
    assert [o.domain for o in proto.opset_import if o.domain == "rms_deploy"] == []
    onnx.checker.check_model(proto, full_check=True)
    assert [v.name for v in proto.graph.output] == [v.name for v in model.graph.output]
    near(run(proto, feeds_of(model)), run(model, feeds_of(model)))
    again = fuse(primitives.model)
    described = [(n.kind, n.axes, n.n, n.epsilon, n.rms_epsilon, n.rms_min, n.partial_size) for n in again.norms]
    assert described == [
        (n.kind, n.axes, n.n, n.epsilon, n.rms_epsilon, n.rms_min, n.partial_size) for n in fused.norms
    ]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "order",
    ["n = Div (u, r) h = DOWN (n) y = Mul (h, g)", "n = Div (u, r) k = Cast <to = 1> (g) o = Mul (n, k) y = DOWN (o)"],
)
def test_unfuse_keeps_the_order_of_rounding(dtype, order, build, run, feeds_of, assert_equal):
    down = f"Cast <to = {10 if dtype == 'float16' else 16}>"
    body = "u = Cast <to = 1> (x) q = Mul (u, u) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) " + order
    model = build(body.replace("DOWN", down), inputs=f"{dtype}[b,s,8] x, {dtype}[8] g", outputs=f"{dtype}[b,s,8] y")
    fused = fuse(model)
    primitives = ir.to_proto(unfuse(fused.model).model)
    assert_equal(run(primitives, feeds_of(model)), run(model, feeds_of(model)))
    assert fuse(primitives).norms[0].rounding == fused.norms[0].rounding


def test_onnx(model, spelling, run, feeds_of):
    result = fuse(model, target="standard").model
    proto = ir.to_proto(result)
    schemas.register()
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    assert {o.domain: o.version for o in proto.opset_import}[""] == 23
    assert ("RMSNormalization" in ops(result)) == (spelling not in _OWN)
    assert any(node.domain == "rms_deploy" for node in proto.graph.node) == (spelling in _OWN)
    near(run(proto, feeds_of(model)), run(model, feeds_of(model)))
    again = fuse(result, target="standard")
    assert not again.norms
    assert ir.to_proto(again.model).SerializeToString(deterministic=True) == proto.SerializeToString(deterministic=True)


def test_onnxruntime(model, spelling, run, feeds_of):
    result = fuse(model, target="onnxruntime").model
    kinds = ops(result)
    if spelling in _OWN:
        assert not [kind for kind in kinds if "Simplified" in kind]
    else:
        assert ("SkipSimplifiedLayerNormalization" in kinds) == (spelling == "residual")
        assert ("SimplifiedLayerNormalization" in kinds) == (spelling != "residual")
    near(run(ir.to_proto(result), feeds_of(model)), run(model, feeds_of(model)))
    back = fuse(result)
    assert len(back.norms) + len(back.already) == 1
    near(run(ir.to_proto(back.model), feeds_of(model)), run(model, feeds_of(model)))
    assert not fuse(result, target="onnxruntime").norms


def test_onnxruntime_says_that_it_rounds_otherwise(build, caplog):
    body = "u = Cast <to = 1> (x) q = Mul (u, u) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (u, r) h = Cast <to = 10> (n) y = Mul (h, g)"
    model = build(body, inputs="float16[b,s,8] x, float16[8] g", outputs="float16[b,s,8] y")
    with caplog.at_level(logging.WARNING):
        result = fuse(model, target="onnxruntime").model
    assert ops(result) == ["SimplifiedLayerNormalization"]
    assert "1 norms round to a half type before they scale" in caplog.text


def test_plugins(model):
    result = fuse(model, target="tensorrt-plugin").model
    (node,) = [node for node in result.graph if node.domain == "trt.plugins"]
    assert (node.attributes["plugin_namespace"].value, node.attributes["plugin_version"].value) == ("rms_deploy", "1")
    assert not result.functions
    assert "rms_deploy" not in result.opset_imports
    assert [n.domain for n in fuse(result).model.graph if "Norm" in n.op_type] == ["rms_deploy"]
    assert len(unfuse(result).norms) == 1


def test_no_functions(model):
    result = fuse(model, functions=False)
    assert not result.model.functions
    assert any(node.domain == "rms_deploy" for node in result.model.graph)
    assert not fuse(fuse(model).model, functions=False).model.functions


def test_an_old_opset_is_converted_with_its_weights(build, run, feeds_of):
    core = NORM.replace("m = ReduceMean (q, last)", "m = ReduceMean <axes = [-1]> (q)")
    model = build(
        f"h = Exp (x) {core} k = MatMul (n, w) y = ReduceMax <axes = [-1]> (k)", outputs="float[b,s,1] y", opset=13
    )
    weight = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)  # larger than what is converted
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    proto = ir.to_proto(fuse(model, target="standard").model)
    onnx.checker.check_model(proto, full_check=True)
    assert [v.name for v in proto.graph.input] == ["x"]
    near(run(proto, feeds_of(model)), run(model, feeds_of(model)))


def test_an_unknown_target(build):
    with pytest.raises(InputError, match="target 'tvm' is not known; use fused, standard"):
        fuse(build("y = Exp (x)"), target="tvm")


def test_a_model_without_norms_stays_what_it_was(build):
    model = build("y = Exp (x)")
    for target in NormForm:
        assert (
            ir.to_proto(fuse(model, target=target).model).SerializeToString()
            == ir.to_proto(ir.from_proto(model)).SerializeToString()
        )


@pytest.mark.parametrize("target", NormForm)
def test_a_model_without_operators_of_onnx(target):
    text = '<ir_version: 8, opset_import: ["rms_deploy" : 1]> g (float[n,8] X, float[8] scale) => (float[n,8] Y) { Y = rms_deploy.RMSNorm (X, scale) }'
    lowered = fuse(onnx.parser.parse_model(text), target=target).model
    assert unfuse(lowered).model.opset_imports[""] >= 18
