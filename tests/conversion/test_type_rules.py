"""Which nodes have no form in a half type: by their schema, by the converter's list, and sums."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rms_deploy.conversion.type_rules import nodes_without_half

FLOAT16, BFLOAT16 = ir.DataType.FLOAT16, ir.DataType.BFLOAT16


def kept(model, to=FLOAT16):
    return {node.op_type: reason for node, reason in nodes_without_half(model, to).items()}


@pytest.mark.parametrize(
    ("body", "to", "opset", "expected"),
    [
        ("y = Neg(x)", FLOAT16, 18, {}),
        ("y = CumSum(x, axis)", FLOAT16, 18, {"CumSum": "ONNX Runtime's converter keeps this operator"}),
        ("m = ReduceMean(x, axis) y = Sub(x, m)", FLOAT16, 18, {"ReduceMean": "a sum outside of a fused norm"}),
        ("y = HardSwish(x)", BFLOAT16, 18, {"HardSwish": "HardSwish has no bfloat16 in opset 18"}),
        ("y = HardSwish(x)", BFLOAT16, 22, {}),
        ("y = com.microsoft.QuickGelu(x)", FLOAT16, 18, {}),
        ("y = rms_deploy.RMSNorm(x, w)", FLOAT16, 18, {}),
        ("y = rms_deploy.RMSNormShift(x, w, w)", FLOAT16, 18, {}),
        ("y, s = rms_deploy.AddFloat32RMSNorm(x, x, w)", BFLOAT16, 18, {}),
        (
            "q = rms_deploy.RMSNormQuantize <y_scale = 0.1, output_dtype = 3> (x, w) y = Cast <to = 1> (q)",
            FLOAT16,
            18,
            {},
        ),
        ("i = Shape(x) y = Identity(x)", FLOAT16, 18, {}),
    ],
)
def test_rules(prepared, body, to, opset, expected):
    constants = "int64 axis = {1}, float[8] w = {1,2,3,4,5,6,7,8}"
    body = body.replace("ReduceMean(x, axis)", "ReduceMean<keepdims = 1>(x)")
    assert kept(prepared(body, constants=constants, opset=opset), to) == expected


def test_quantisation_before_opset_19_takes_float32_only(prepared):
    body = "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)"
    constants = "float s = {0.1}, int8 z = {0}"
    assert kept(prepared(body, constants=constants)) == {
        "QuantizeLinear": "QuantizeLinear has no float16 in opset 18",
        "DequantizeLinear": "DequantizeLinear has no float16 in opset 18",
    }
    assert kept(prepared(body, constants=constants, opset=19)) == {}


def test_an_operator_that_nobody_knows_stays(prepared):
    model = prepared("y = local.Mine(x)")
    assert kept(model) == {"Mine": "nobody knows the types of local.Mine"}


def test_inputs_of_several_float_types_stay_what_they_are(prepared):
    model = prepared(
        "y = rms_deploy.RMSNorm(x, w)", "float16[b,8] x", "float16[b,8] y", "float[8] w = {1,2,3,4,5,6,7,8}"
    )
    assert kept(model) == {"RMSNorm": "its inputs have several float types"}
