"""What a file says of shapes and no runtime enforces: the fused model computes what the file computes all the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.ops.forms import NormForm
from rms_deploy.runtime import onnxruntime_session as runtime

VERSION = tuple(int(part) for part in ort.__version__.split(".")[:2])
TARGETS = [form for form in NormForm if form is not NormForm.TENSORRT_PLUGIN]


def norm(x, y, axes="last", suffix=""):
    """The text of a norm of `x` with a scale, named `y`."""
    return (
        f"q{suffix} = Mul ({x}, {x}) m{suffix} = ReduceMean (q{suffix}, {axes}) e{suffix} = Add (m{suffix}, eps) "
        f"r{suffix} = Sqrt (e{suffix}) n{suffix} = Div ({x}, r{suffix}) {y} = Mul (n{suffix}, scale)"
    )


TALL = "float[2,1,1] tall = {1, 5}"
CONSTANTS = "float eps = {1e-3}, int64[1] last = {-1}, int64[1] first = {1}, int64 two = {2}, bool yes = {1}, " + TALL
CONSTANTS += ", float[8] scale = {1.5, -0.7, 0.3, 2.1, -1.2, 0.9, 1.1, 0.4}"


def model(body, inputs="float[b,8] x", functions=""):
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18, "local" : 1]> g ({inputs}) => (float[b,8] y) <{CONSTANTS}> '
        f"{{ {body} }} {functions}"
    )


def loop(body):
    return (
        "y = Loop (two, yes, x) <body = body (int64 i, bool k, float[b,8] a) => (bool j, float[b,8] d) "
        f"{{ j = Identity (k) {body} }}>"
    )


def declared(proto, name, shape):
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    return proto


X, ROW = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32), np.int64([8])
ALL = norm("a", "w").replace("ReduceMean (q, last)", "ReduceMean (q)")
BRANCHES = "h = If (c) <then_branch = one () => (float[b,8] t) { t = Mul (x, tall) }, \
    else_branch = other () => (float[b,8] o) { o = Neg (x) }>"
LIES = {
    "a Loop that adds an axis, a norm of all": (model(loop(f"{ALL} d = Mul (w, tall)")), {}),
    "a Loop that adds an axis, a norm from the front": (
        model(loop(f"{norm('a', 'w', 'first')} d = Mul (w, tall)").replace("(n, scale)", "(n, eps)")),
        {},
    ),
    "branches of two ranks": (
        model(f"{BRANCHES} {norm('h', 'y', 'first')}", "float[b,8] x, bool c"),
        {"c": np.array(True)},
    ),
    "a stale shape of a result": (declared(model(f"h = Exp (x) {norm('h', 'y')}"), "h", [3, 8, 1]), {}),
    "a stale shape that nothing contradicts": (
        declared(model(f"h = Reshape (x, s) {norm('h', 'y')}", "float[b,8] x, int64[n] s"), "h", ["b", 8]),
        {"s": np.int64([24, 1])},
    ),
    "a function": (
        model(
            "y = local.F (x)",
            functions='<domain: "local", opset_import: ["" : 18]> F (v) => (z) { axes = Constant <value_ints = [1]> () '
            "c = Constant <value = float {1e-3}> () t = Constant <value = float[2,1,1] {1, 5}> () h = Mul (v, t) "
            "q = Mul (h, h) m = ReduceMean (q, axes) e = Add (m, c) r = Sqrt (e) z = Div (h, r) }",
        ),
        {},
    ),
}


def run(proto, feeds, *, library=False):
    if library:
        return runtime.run(runtime.session(proto, optimize=False, library=True), feeds)["y"]
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


@pytest.mark.parametrize("verify", [False, True], ids=["matched", "proven"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("proto", "more"), LIES.values(), ids=LIES)
def test_declarations_that_lie_change_no_number(proto, more, target, verify):
    feeds = {"x": X, **more}
    if VERSION < (1, 24) and target is NormForm.STANDARD and feeds.get("s") is not None:
        pytest.skip("this ONNX Runtime's RMSNormalization takes no axis of one element")
    expected = run(proto, feeds)
    fused = ir.to_proto(fuse(proto, target=target, verify=verify).model)
    for library in (False, True):
        actual = run(fused, feeds, library=library)
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_a_loop_that_keeps_its_shape_is_fused_with_its_scale():
    proto = model(loop(norm("a", "d")))
    (fused,) = fuse(proto).norms
    assert (fused.axes, fused.n, fused.scale) == ((-1,), 8, "float32[8]")


def test_one_symbol_of_two_sizes_is_an_error_and_no_other_number():
    """The inputs of a residual Add; without our library the model runs as it did."""
    proto = model(f"h = Add (x, z) {norm('h', 'y')}", "float[b,8] x, float[b,8] z")
    feeds = {"x": X, "z": X[:1]}
    fused = ir.to_proto(fuse(proto).model)
    assert [node.op_type for node in fused.graph.node] == ["AddRMSNorm"]
    np.testing.assert_allclose(run(fused, feeds), run(proto, feeds), rtol=1e-5)
    with pytest.raises(Exception, match="R"):
        run(fused, feeds, library=True)


def test_an_expand_to_a_symbol_of_two_inputs_stays():
    """It may broadcast x; the norm of x does not."""
    body = norm("x", "y").replace("(n, scale)", "(n, g)")
    proto = model(f"t = Shape (z) g = Expand (eps, t) {body}", "float[b,8] x, float[b,8] z")
    feeds = {"x": X[:1], "z": X}
    fused = ir.to_proto(fuse(proto).model)
    np.testing.assert_allclose(run(fused, feeds, library=True), run(proto, feeds), rtol=1e-5)
    assert run(proto, feeds).shape == (3, 8)
