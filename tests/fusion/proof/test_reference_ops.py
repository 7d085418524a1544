"""The norms that runtimes have as one op are run by their formulas, and an op with another formula is a near miss."""

from dataclasses import replace

import numpy as np
import onnx.helper
import onnx.reference
import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.passes import fuse_rms_norm
from rms_deploy.fusion.proof.reference_ops import NEW_OPS

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


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("Expand", [np.float32(1), np.int64([2**40])]),
        ("ConstantOfShape", [np.int64([2**20, 2**20])]),
        ("Tile", [np.float32([1]), np.int64([2**40])]),
        ("Range", [np.int64(0), np.int64(2**40), np.int64(1)]),
    ],
)
def test_what_makes_much_of_a_few_numbers_is_bounded(op, inputs):
    names = [f"i{i}" for i in range(len(inputs))]
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, inputs, strict=True)
    ]
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.UNDEFINED, None)
    graph = onnx.helper.make_graph([onnx.helper.make_node(op, names, ["y"])], "g", values, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    evaluator = onnx.reference.ReferenceEvaluator(model, new_ops=NEW_OPS)
    with pytest.raises(ValueError, match="too large to be run"):
        evaluator.run(None, dict(zip(names, inputs, strict=True)))
    small = [np.minimum(array, 3) for array in inputs]
    assert evaluator.run(None, dict(zip(names, small, strict=True)))[0].size in (3, 9)
