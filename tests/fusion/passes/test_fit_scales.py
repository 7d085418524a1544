"""ONNX Runtime fuses the bodies of our nodes rightly, or not at all."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.passes.fit_scales import FitScales
from rms_deploy.ops import reference


def norm(x: str, y: str, p: str, scale: str) -> str:
    core = f"{p}q = Mul ({x}, {x}) {p}m = ReduceMean ({p}q, last) {p}e = Add ({p}m, eps) {p}r = Sqrt ({p}e)"
    return f"{core} {p}n = Div ({x}, {p}r) {y} = Mul ({p}n, {scale})"


def optimised(proto: onnx.ModelProto, tmp_path) -> list[str]:
    """The operators that ONNX Runtime makes of a model, without our library."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]


def test_a_scalar_beside_a_vector_is_expanded_and_both_are_fused(build, tmp_path):
    body = f"{norm('x', 'a', 'a', 'three')} {norm('a', 'y', 'b', 'scale')}"
    model = build(body, inputs="float[8] x", outputs="float[8] y")
    fused = ir.to_proto(fuse(model).model)
    assert [node.op_type for node in fused.graph.node] == [
        "Constant",
        "Reshape",
        "Constant",
        "Expand",
        "RMSNorm",
        "RMSNorm",
    ]
    assert optimised(fused, tmp_path).count("SimplifiedLayerNormalization") == 2
    again = fuse(fused)
    assert ir.to_proto(again.model).graph.node == fused.graph.node


def test_one_element_beside_a_vector(build, tmp_path):
    model = build(f"{norm('x', 'a', 'a', 'eps1')} {norm('a', 'y', 'b', 'scale')}")
    fused = ir.to_proto(fuse(model).model)
    assert [node.op_type for node in fused.graph.node] == ["Constant", "Expand", "RMSNorm", "RMSNorm"]
    assert optimised(fused, tmp_path).count("SimplifiedLayerNormalization") == 2


@pytest.mark.parametrize(
    ("dims", "scale", "squares"),
    [("8", "three", "Mul"), ("n", "three", "Mul"), ("b,s,8", "three", "Pow"), ("b,s,8", "scale", "Pow")],
)
def test_where_all_would_be_misread_the_body_is_not_fused(dims, scale, squares, build, tmp_path):
    fused = fuse(build(norm("x", "y", "a", scale), inputs=f"float[{dims}] x", outputs=f"float[{dims}] y")).model
    (body,) = fused.functions.values()
    assert [node.op_type for node in fused.graph] == ["RMSNorm"]
    assert squares in [node.op_type for node in body]
    assert ("SimplifiedLayerNormalization" in optimised(ir.to_proto(fused), tmp_path)) == (scale == "scale")


def test_an_axis_from_the_front_of_what_a_loop_declares_is_not_fused():
    """ONNX Runtime believes that the axis is the last one; after the first turn it is not."""
    turn = "j = Identity (k) q = Mul (a, a) m = ReduceMean (q, second) e = Add (m, eps) r = Sqrt (e) n = Div (a, r)"
    body = f"body (int64 i, bool k, float[2,8] a) => (bool j, float d) {{ {turn} d = Mul (n, tall) }}"
    constants = (
        "<int64 two = {2}, bool yes = {1}, int64[1] second = {1}, float[2,1,1] tall = {1, 5}, float eps = {1e-5}>"
    )
    graph = f"g (float[2,8] x) => (float y) {constants} {{ y = Loop (two, yes, x) <body = {body}> }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {graph}')
    fused = fuse(model)
    assert len(fused.norms) == 1
    (body,) = fused.model.functions.values()
    assert "Mul" in [node.op_type for node in body]
    assert "Pow" not in [node.op_type for node in body]


def test_an_axis_that_is_not_the_last_is_left(build):
    model = build(
        "a = rms_deploy.RMSNorm <axes = [0]> (x, eps1) y = rms_deploy.RMSNorm (a, scale)",
        inputs="float[2,3,8] x",
        outputs="float[2,3,8] y",
    )
    model.opset_import.add(domain="rms_deploy", version=1)
    given = ir.from_proto(model)
    assert not FitScales()(given).modified
    assert len(given.graph) == 2


def test_the_numbers(build, run, feeds_of):
    model = build(f"{norm('x', 'a', 'a', 'eps1')} {norm('a', 'y', 'b', 'scale')}")
    got, expected = (run(proto, feeds_of(model)) for proto in (ir.to_proto(fuse(model).model), model))
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-5)


def test_a_shift_is_expanded_with_its_scale(build, tmp_path, run, feeds_of):
    model = build(
        "a = rms_deploy.RMSNormShift (x, eps1, eps1) y = rms_deploy.RMSNormShift (a, scale, scale)",
    )
    model.opset_import.add(domain="rms_deploy", version=1)
    fused = ir.to_proto(fuse(model).model)
    kinds = [node.op_type for node in fused.graph.node if node.op_type != "Constant"]
    assert kinds == ["Expand", "Expand", "RMSNormShift", "RMSNormShift"]
    assert optimised(fused, tmp_path).count("SimplifiedLayerNormalization") == 2
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    expected = feeds_of(model)["x"].astype(np.float64)
    for name in ("eps1", "scale"):
        expected = reference.rms_norm(expected, weights[name], shift=weights[name])
    np.testing.assert_allclose(run(fused, feeds_of(model))[0], expected, rtol=1e-5, atol=1e-6)


def test_a_norm_that_is_quantised_shares_its_body_with_one_that_is_not(build, tmp_path):
    """What is misread of one would be misread of both."""
    model = build(
        "a = rms_deploy.RMSNorm (x, scale) y = rms_deploy.RMSNormQuantize <y_scale = 0.1, output_dtype = 3> (a, eps1)",
        outputs="int8[b,s,8] y",
    )
    model.opset_import.add(domain="rms_deploy", version=1)
    fused = ir.to_proto(fuse(model).model)
    assert [node.op_type for node in fused.graph.node] == ["RMSNorm", "Constant", "Expand", "RMSNormQuantize"]
    assert optimised(fused, tmp_path).count("SimplifiedLayerNormalization") == 2
