"""ONNX Runtime's norm with a residual inside, against ONNX Runtime itself."""

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.near_miss import near_miss
from rms_deploy.fusion.passes import fuse_rms_norm
from rms_deploy.fusion.passes.expand_skip_norm import ExpandSkipNorm

INPUTS = "float[b,s,8] x, float[b,s,8] z"
SKIP = "com.microsoft.SkipSimplifiedLayerNormalization"


def run(model):
    generator = np.random.default_rng(0)
    feeds = {v.name: generator.standard_normal((2, 3, 8)).astype(np.float32) for v in model.graph.input}
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options).run(None, feeds)


def fused(model, kinds):
    result = fuse(model)
    assert [node.op_type for node in result.model.graph] == kinds
    assert not result.near_misses
    for a, e in zip(run(ir.to_proto(result.model)), run(model), strict=True):
        # one float32 sum rounded in another order, and eight roundings of the norm, of the largest element
        np.testing.assert_allclose(a, e, rtol=0, atol=16 * np.finfo(np.float32).eps * np.abs(e).max())
    return result


def test_becomes_one_op_with_its_residual(build):
    result = fused(build(f"y = {SKIP} <epsilon = 0.25> (x, z, scale)", inputs=INPUTS), ["AddRMSNorm"])
    assert result.norms[0].epsilon == 0.25


def test_the_epsilon_of_its_schema(build):
    """1e-12, where that of SimplifiedLayerNormalization is 1e-5; tiny rows show it."""
    model = build(f"a = Mul (x, tiny) c = Mul (z, tiny) y = {SKIP} (a, c, scale)", inputs=f"{INPUTS}, float tiny")
    model.graph.input.pop()
    model.graph.initializer.add(name="tiny", data_type=1, float_data=[1e-6])
    result = fused(model, ["Mul", "Mul", "AddRMSNorm"])
    assert result.norms[0].epsilon == pytest.approx(1e-12)


def test_with_bias_and_sum(build):
    model = build(
        f"y, m, i, t = {SKIP} <epsilon = 0.25> (x, z, scale, scale)",
        inputs=INPUTS,
        outputs="float[b,s,8] y, float[b,s,8] t",
    )
    result = fused(model, ["Add", "AddRMSNorm"])
    assert [value.name for value in result.model.graph[1].outputs] == ["y", "t"]


def test_a_chain(build):
    """The types of the second come from the first, which onnx does not know."""
    body = f"a, m, i, t = {SKIP} (x, z, scale) c = Relu (a) y, k, j, u = {SKIP} (c, t, scale)"
    fused(build(body, inputs=INPUTS), ["AddRMSNorm", "Relu", "AddRMSNorm"])


NEAR_MISSES = {
    "the inverse root is used": (f"y0, m, i = {SKIP} (x, z, scale) y = Mul (y0, i)", INPUTS, "inverse root is used"),
    "a type that is not known": (f"a = com.microsoft.Unknown (x) y = {SKIP} (a, z, scale)", INPUTS, "one type"),
    "a negative epsilon": (f"y = {SKIP} <epsilon = -0.25> (x, z, scale)", INPUTS, "epsilon is negative"),
    "float64": (f"y = {SKIP} (x, z, w)", "double[b,s,8] x, double[b,s,8] z, double[8] w", "one type"),
}


@pytest.mark.parametrize(("body", "inputs", "reason"), NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(body, inputs, reason, build):
    result = fuse(build(body, inputs=inputs))
    assert not result.norms
    assert [miss.piece for miss in result.near_misses] == ["foreign"]
    assert reason in result.near_misses[0].reason
    assert "SkipSimplifiedLayerNormalization" in [node.op_type for node in result.model.graph]


def test_the_pass_does_nothing_the_second_time(build):
    model = ir.from_proto(build(f"y = {SKIP} (x, z, scale)", inputs=INPUTS))
    assert ExpandSkipNorm()(model).modified
    assert not ExpandSkipNorm()(model).modified


@pytest.mark.parametrize("bias", ["", ", scale"])
@pytest.mark.parametrize("outputs", ["y", "y, m, i, t"])
def test_one_whose_norm_is_not_fused_is_put_back(bias, outputs, build):
    """The default domain has no SimplifiedLayerNormalization for onnx."""
    body = f"{outputs} = {SKIP} <epsilon = 0.25> (x, z, scale{bias})"
    ends = "float[b,s,8] y" if outputs == "y" else "float[b,s,8] y, float[b,s,8] t"
    model = ir.from_proto(build(f"k = Neg (x) {body}".replace("(x, z", "(k, z"), inputs=INPUTS, outputs=ends))
    before = ir.to_proto(model)
    expanded = ExpandSkipNorm()(model)
    assert expanded.modified
    assert [node.op_type for node in model.graph][-1] == "SimplifiedLayerNormalization"
    (expansion,) = expanded.expansions
    expansion.undo()
    assert ir.to_proto(model) == before


def test_it_is_put_back_by_the_fusion(build, monkeypatch):
    model = build(
        f"y, m, i, t = {SKIP} (x, z, scale) w = Neg (t)", inputs=INPUTS, outputs="float[b,s,8] y, float[b,s,8] w"
    )
    monkeypatch.setattr(fuse_rms_norm, "_failed", lambda match, _: near_miss("verify", match.anchor, "no"))
    result = fuse(model)
    assert [node.op_type for node in result.model.graph] == ["SkipSimplifiedLayerNormalization", "Neg"]
    assert [miss.piece for miss in result.near_misses] == ["verify"]


def test_an_output_without_a_name_is_no_sum(build):
    model = build(f"y, m, i, t = {SKIP} (x, z, scale)", inputs=INPUTS)
    model.graph.node[0].output[:] = ["y", "", "", ""]
    fused(model, ["AddRMSNorm"])
