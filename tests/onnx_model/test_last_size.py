"""The last size of a value whose rank nobody knows."""

import onnx
import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.last_size import last_size

TOLD = {
    "made by a MatMul": "v = MatMul (z, w)",
    "of a sum": "h = MatMul (z, w) v = Add (z, h)",
    "of a sum with a bias": "v = Add (z, scale)",
    "kept": "h = MatMul (z, w) k = Tanh (h) v = Identity (k)",
    "read by a MatMul": "v = Exp (z) p = MatMul (v, w) o = Exp (p)",
}
UNTOLD = {
    "of a sum with 1": "v = Add (z, eps1)",
    "read by a MatMul in a branch": (
        "v = Exp (z) o = If (c) <"
        "then_branch = t () => (float a) { p = MatMul (v, w) a = ReduceMax <keepdims = 0> (p) }, "
        "else_branch = e () => (float b) { b = Identity (half) }>"
    ),
    "the second operand": "v = Exp (z) p = MatMul (w, v) o = Exp (p)",
}


def size_of(body, build):
    inputs = "float[a,b] x, int64[r] t, float[8,8] w, bool c"
    model = ir.from_proto(build(f"z = Reshape (x, t) {body} y = Exp (v)", inputs=inputs, outputs="float[?,?] y"))
    (value,) = (output for node in model.graph for output in node.outputs if output.name == "v")
    assert Facts(model).shape(value) is None
    return last_size(value, Facts(model))


@pytest.mark.parametrize("body", TOLD.values(), ids=TOLD)
def test_told(body, build):
    assert size_of(body, build) == 8


@pytest.mark.parametrize("body", UNTOLD.values(), ids=UNTOLD)
def test_untold(body, build):
    assert size_of(body, build) is None


def test_a_norm_of_unknown_rank_takes_its_scale(build):
    norm = "q = Mul (v, v) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (v, r) y = Mul (n, scale)"
    model = build(f"z = Reshape (x, t) v = MatMul (z, w) {norm}", inputs="float[a,b] x, int64[r] t, float[8,8] w")
    result = fuse(model)
    assert [node.op_type for node in result.model.graph] == ["Reshape", "MatMul", "RMSNorm"]
    assert result.norms[0].scale == "float32[8]"
    onnx.checker.check_model(ir.to_proto(result.model))
