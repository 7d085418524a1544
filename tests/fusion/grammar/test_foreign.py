import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.inspect import inspect

RMS = "y = RMSNormalization"
SIMPLIFIED = "y = SimplifiedLayerNormalization"


def foreign(build, body, *, x="float", scale="float[8]", y=None):
    inputs = f"{x}[b,s,8] x, {scale} w"
    return build(f"{body} (x, w)", inputs=inputs, outputs=f"{y or x}[b,s,8] y", opset=23)


def test_rms_normalization(build, check):
    (norm,) = check(foreign(build, f"{RMS} <axis = -1, epsilon = 3e-4>")).norms
    assert (norm.epsilon, norm.rounding) == (pytest.approx(3e-4), None)


def test_rms_normalization_in_float16_rounds_and_then_scales(build, feeds_of, run, assert_equal):
    """Compared with the body in ONNX's definition; its evaluator squares in float16."""
    model = foreign(build, f"{RMS} <axis = -1, epsilon = 3e-4>", x="float16", scale="float16[8]")
    body = """u = Cast <to = 1> (x) q = Mul (u, u) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (u, r)
        h = Cast <to = 10> (n) y = Mul (h, w)"""
    spelled = build(body, inputs="float16[b,s,8] x, float16[8] w", outputs="float16[b,s,8] y")
    result = fuse(model)
    assert result.norms[0].rounding == "before scale"
    feeds = feeds_of(model)
    assert_equal(run(ir.to_proto(result.model), feeds), run(spelled, feeds))


def test_the_default_epsilon_is_that_of_the_schema(build, check):
    assert check(foreign(build, RMS)).norms[0].epsilon == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("axis", "axes", "scale"), [(1, (-2, -1), "[6,8]"), (-2, (-2, -1), "[6,8]"), (2, (-1,), "[8]")]
)
def test_axis(axis, axes, scale, build, check):
    body = f"{RMS} <axis = {axis}> (x, w)"
    model = build(body, inputs=f"float[b,6,8] x, float{scale} w", outputs="float[b,6,8] y", opset=23)
    assert check(model).norms[0].axes == axes


def test_scale_in_float32_beside_x_in_float16_and_a_cast_back(build):
    """What torch's exporter writes for Gemma: not valid ONNX, so there is nothing to compare with."""
    body = "h = RMSNormalization <epsilon = 3e-4> (x, w) y = Cast <to = 10> (h)"
    model = build(body, inputs="float16[b,s,8] x, float[8] w", outputs="float16[b,s,8] y", opset=23)
    result = fuse(model)
    assert [node.op_type for node in result.model.graph] == ["RMSNorm"]
    assert (result.norms[0].dtype, result.norms[0].rounding, result.norms[0].scale) == ("float16", "once", "float32[8]")


def test_scale_in_float32_beside_x_in_float16_and_no_cast(build):
    result = fuse(foreign(build, RMS, x="float16", scale="float[8]", y="float"))
    assert [node.op_type for node in result.model.graph] == ["Cast", "RMSNorm"]
    assert result.norms[0].dtype == "float32"


@pytest.mark.parametrize("x", ["float", "float16"])
def test_simplified_layer_normalization(x, build, check):
    (norm,) = check(foreign(build, f"{SIMPLIFIED} <axis = -1, epsilon = 3e-4>", x=x, scale=f"{x}[8]")).norms
    assert norm.rounding == (None if x == "float" else "once")


NEAR_MISSES = {
    "stash_type": (f"{RMS} <stash_type = 10> (x, w)", "float16", "float16[8]", "foreign", "stash_type is 10"),
    "scale per row": (f"{RMS} (x, w)", "float", "float[b,s,8]", "scaled", "scale has the shape ['b', 's', 8]"),
    "float64": (f"{RMS} (x, w)", "double", "double[8]", "foreign", "not known to be float32"),
    "scale of another half type": (f"{RMS} (x, w)", "float16", "bfloat16[8]", "foreign", "scale is bfloat16"),
    "negative epsilon": (f"{RMS} <epsilon = -1.0> (x, w)", "float", "float[8]", "epsilon", "not negative"),
}


@pytest.mark.parametrize(("body", "x", "scale", "piece", "reason"), NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(body, x, scale, piece, reason, build, near_miss):
    y = scale.split("[")[0]
    near_miss(
        build(body, inputs=f"{x}[b,s,8] x, {scale} w", outputs=f"{y}[b,s,8] y", opset=23), piece=piece, reason=reason
    )


def test_the_domain_of_onnx_runtime_is_known_too(build):
    body = "y = com.microsoft.SimplifiedLayerNormalization (x, w)"
    result = fuse(build(body, inputs="float[b,s,8] x, float[8] w"))
    assert [node.op_type for node in result.model.graph] == ["RMSNorm"]


def test_the_second_output_of_simplified_layer_normalization_is_a_near_miss(build, near_miss):
    body = "y, z = SimplifiedLayerNormalization (x, w)"
    model = build(body, inputs="float[b,s,8] x, float[8] w", outputs="float[b,s,8] y, float[b,s,1] z")
    near_miss(model, piece="foreign", reason="its second output is used")


@pytest.mark.parametrize(
    ("axis", "reason"), [(-(2**31), "out of range for rank 3"), (2**31 - 1, "out of range for rank 3")]
)
def test_an_axis_far_away_is_no_list_of_axes(axis, reason, build):
    (miss,) = fuse(foreign(build, f"{SIMPLIFIED} <axis = {axis}>")).near_misses
    assert reason in miss.reason


def test_an_axis_far_away_of_an_x_of_unknown_rank(build):
    model = foreign(build, f"{SIMPLIFIED} <axis = {-(2**31)}>")
    model.graph.input[0].type.tensor_type.ClearField("shape")
    (miss,) = fuse(model).near_misses
    assert "no x has so many axes" in miss.reason
    (norm,) = inspect(model).norms
    assert norm.axes is None
