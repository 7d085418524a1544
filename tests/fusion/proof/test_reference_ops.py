"""The norms that runtimes have as one op are run by their formulas, and an op with another formula is a near miss."""

from dataclasses import replace

import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.passes import fuse_rms_norm

SKIP = "com.microsoft.SkipSimplifiedLayerNormalization"


WHOLE = {
    "RMSNormalization": "y = RMSNormalization <axis = -1, epsilon = 0.25> (x, w)",
    "SimplifiedLayerNormalization": "y = SimplifiedLayerNormalization <axis = -1, epsilon = 0.25> (x, w)",
    "of com.microsoft": "y = com.microsoft.SimplifiedLayerNormalization <axis = -1, epsilon = 0.25> (x, w)",
    "of two axes": "y = com.microsoft.SimplifiedLayerNormalization <axis = 1, epsilon = 0.25> (x, w)",
    "default epsilon": "y = com.microsoft.SimplifiedLayerNormalization (x, w)",
}


@pytest.mark.parametrize("dtype", ["float", "float16", "bfloat16"])
@pytest.mark.parametrize("body", WHOLE.values(), ids=WHOLE)
def test_a_whole_norm_is_run_by_its_formula(body, dtype, build, monkeypatch):
    w = f"{dtype}[4,64] w" if "= 1," in body else f"{dtype}[64] w"
    model = build(body, inputs=f"{dtype}[b,4,64] x, {w}", outputs=f"{dtype}[b,4,64] y", opset=23)
    (norm,) = fuse(model).norms
    assert norm.max_ulp is not None
    # a quarter of the halves is rounded otherwise, if the scale comes before the rounding and not after it
    wrong = [{"epsilon": 3.1e-3}, {"axes": (-3,)}]
    if dtype != "float":
        wrong.append({"scale_type": 1 if "RMSNormalization" in body else int(ir.DataType[dtype.upper()])})
    for attributes in wrong:
        with monkeypatch.context() as patch:
            right = fuse_rms_norm.replacement_for

            def wrong(match, facts, right=right, attributes=attributes):
                op = right(match, facts)
                return replace(op, attributes={**op.attributes, **attributes})

            patch.setattr(fuse_rms_norm, "replacement_for", wrong)
            result = fuse(model)
            assert not result.norms, attributes
            assert result.near_misses[0].reason.startswith("run on "), attributes
            assert "the op differs" in result.near_misses[0].reason


def test_a_whole_norm_of_two_types_is_not_run(build):
    body = "n = RMSNormalization (x, w) y = Cast <to = 10> (n)"
    model = build(body, inputs="float16[b,s,8] x, float[8] w", outputs="float16[b,s,8] y", opset=23)
    (norm,) = fuse(model).norms
    assert norm.max_ulp is None
    assert "RMSNormalization of float16 with a scale of float32, which ONNX does not define" in norm.unproven


SKIPS = {
    "plain": (f"y = {SKIP} (x, z, g)", "TT[b,s,8] y"),
    "bias": (f"y = {SKIP} <epsilon = 0.25> (x, z, g, c)", "TT[b,s,8] y"),
    "bias and sum": (f"y, m, i, t = {SKIP} (x, z, g, c)", "TT[b,s,8] y, TT[b,s,8] t"),
}


@pytest.mark.parametrize("dtype", ["float", "float16", "bfloat16"])
@pytest.mark.parametrize(("body", "outputs"), SKIPS.values(), ids=SKIPS)
def test_a_norm_with_its_sum_inside_is_run_by_its_formula(body, outputs, dtype, build):
    inputs = "TT[b,s,8] x, TT[b,s,8] z, TT[8] g, TT[8] c"
    (norm,) = fuse(build(body, inputs=inputs.replace("TT", dtype), outputs=outputs.replace("TT", dtype))).norms
    assert norm.max_ulp is not None
    assert norm.max_ulp <= 4
    assert not norm.unproven


def test_the_standard_op_is_run(build):
    (norm,) = fuse(build("y = RMSNormalization (x, scale)", opset=23)).norms
    assert norm.max_ulp is not None
