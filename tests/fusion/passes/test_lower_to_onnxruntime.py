# ruff: noqa: E501 - a graph a line
"""ONNX Runtime's ops in the place of ours: the same numbers, and our node kept where they cannot express it."""

from __future__ import annotations

import logging

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.ops import reference

from ..spellings import ONLY_OURS, assert_near


def ops(model):
    return [node.op_type for node in model.graph]


def test_the_same_numbers(spelled, spelling, run, feeds_of):
    result = fuse(spelled, target="onnxruntime").model
    kinds = ops(result)
    if spelling in ONLY_OURS:
        assert not [kind for kind in kinds if "Simplified" in kind]
    else:
        assert ("SkipSimplifiedLayerNormalization" in kinds) == (spelling == "residual")
        assert ("SimplifiedLayerNormalization" in kinds) == (spelling != "residual")
    assert_near(run(ir.to_proto(result), feeds_of(spelled)), run(spelled, feeds_of(spelled)))
    back = fuse(result)
    assert len(back.norms) + len(back.fused_before) == 1
    assert_near(run(ir.to_proto(back.model), feeds_of(spelled)), run(spelled, feeds_of(spelled)))
    assert not fuse(result, target="onnxruntime").norms


def test_it_says_that_it_rounds_otherwise(build, caplog):
    body = "u = Cast <to = 1> (x) q = Mul (u, u) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (u, r) h = Cast <to = 10> (n) y = Mul (h, g)"
    model = build(body, inputs="float16[b,s,8] x, float16[8] g", outputs="float16[b,s,8] y")
    with caplog.at_level(logging.WARNING):
        result = fuse(model, target="onnxruntime").model
    assert ops(result) == ["SimplifiedLayerNormalization"]
    assert "1 norms round to a half type before they scale" in caplog.text


def test_a_scale_of_several_rows_inside_a_function(run, assert_equal):
    """Its scale of one is a Constant there, of which nothing was inferred."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 18, "local" : 1]>
        g (float[b,4,8] x) => (float[b,4,8] y) { y = local.F (x) }
        <domain: "local", opset_import: ["" : 18, "rms_deploy" : 1]>
        F (x) => (y) {
            g = Constant <value = float[4,1] {1, 2, 3, 4}> ()
            y = rms_deploy.RMSNorm (x, g)
        }""")
    model = ir.to_proto(fuse(model).model)
    result = fuse(model, target="onnxruntime").model
    assert not [node for f in result.functions.values() for node in f.graph if node.domain == "rms_deploy"]
    feeds = {"x": np.random.default_rng(0).standard_normal((3, 4, 8)).astype(np.float32)}
    assert_equal(run(ir.to_proto(result), feeds), run(model, feeds))


@pytest.mark.parametrize(
    ("text", "code", "last"), [("float", 1, "Mul"), ("float16", 10, "Mul"), ("float16", 1, "Cast")]
)
def test_a_scale_of_several_rows_is_a_product_after_it(text, code, last, run, assert_equal, caplog):
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]>
        g ({text}[b,4,8] x, {text}[4,8] g) => ({text}[b,4,8] y) {{ y = rms_deploy.RMSNorm <scale_type = {code}> (x, g) }}""")
    generator = np.random.default_rng(0)
    dtype = np.float32 if text == "float" else np.float16
    feeds = {
        "x": generator.standard_normal((3, 4, 8)).astype(dtype),
        "g": generator.standard_normal((4, 8)).astype(dtype),
    }
    with caplog.at_level(logging.WARNING):
        result = fuse(model, target="onnxruntime").model
    assert "SimplifiedLayerNormalization" in ops(result)
    assert ops(result)[-1] == last
    assert "round to a half type before they scale" not in caplog.text
    expected = reference.rms_norm(feeds["x"], feeds["g"], round_before_scale=code == 10)
    assert_equal(run(ir.to_proto(result), feeds), [expected])


def test_a_scale_without_elements_says_that_the_axes_have_none(caplog):
    text = """<ir_version: 8, opset_import: ["" : 18, "local" : 1, "rms_deploy" : 1]> g (float[n] x, float[0] g) => (float y)
        { f = local.F (x) h = Cast <to = 1> (f) y = rms_deploy.RMSNorm (h, g) }"""
    with caplog.at_level(logging.WARNING):
        result = fuse(onnx.parser.parse_model(text), target="onnxruntime").model
    assert ops(result) == ["F", "Cast", "RMSNorm"]
    assert "stays a rms_deploy node: SimplifiedLayerNormalization refuses axes without elements" in caplog.text
