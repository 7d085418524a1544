"""X and R of an AddRMSNorm have one shape in every optimization profile, or are refused before TensorRT sees them."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.engine.residual_shapes import check_residuals
from rms_deploy.errors import InputError
from rms_deploy.onnx_model.optimization_profiles import resolve_profiles


def check(profile, inputs="float[b,8] x, float[c,8] r", body="y, s = rms_deploy.AddRMSNorm(x, r, w)"):
    text = f"""<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]> g ({inputs}) => (float[b,8] y)
        <float[8] w = {{1,2,3,4,5,6,7,8}}> {{ {body} }}"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    check_residuals(model, resolve_profiles(model, [profile]))


def shapes(*sizes):
    return [(size, 8) for size in sizes]


def test_equal_shapes_pass():
    check({"x": shapes(1, 2, 4), "r": shapes(1, 2, 4)})


@pytest.mark.parametrize(
    ("r", "which", "x", "other"), [((1, 1, 1), "opt", 2, 1), ((1, 2, 5), "max", 4, 5), ((0, 2, 4), "min", 1, 0)]
)
def test_others_are_named(r, which, x, other):
    message = (
        rf"node y \(AddRMSNorm\): in the {which} shapes of profile 1 X \(x\) is \[{x},8\] and R \(r\) \[{other},8\]; "
        "they need one shape: give `optimization_profiles`"
    )
    with pytest.raises(InputError, match=message):
        check({"x": shapes(1, 2, 4), "r": shapes(*r)})


@pytest.mark.parametrize("op", ["RMSNormSiluGate", "SiluGateRMSNorm"])
def test_a_gate(op):
    body = f"y = rms_deploy.{op}(x, r, w)"
    check({"x": shapes(1, 2, 4), "r": shapes(1, 2, 4)}, body=body)
    with pytest.raises(
        InputError, match=rf"\({op}\): in the max shapes of profile 1 X \(x\) is \[4,8\] and Z \(r\) \[5,8\]"
    ):
        check({"x": shapes(1, 2, 4), "r": shapes(1, 2, 5)}, body=body)


@pytest.mark.parametrize("op", ["AddRMSNormShift", "AddFloat32RMSNorm", "AddRMSNormQuantize"])
def test_every_sum(op):
    given = "<y_scale = 0.5, output_dtype = 3>" if "Quantize" in op else ""
    body = f"t, s = rms_deploy.{op} {given} (x, r, w{', w' if 'Shift' in op else ''}) y = Cast <to = 1> (t)"
    check({"x": shapes(1, 2, 4), "r": shapes(1, 2, 4)}, body=body)
    with pytest.raises(InputError, match=rf"\({op}\): in the max shapes of profile 1"):
        check({"x": shapes(1, 2, 4), "r": shapes(1, 2, 5)}, body=body)


def test_a_shift_has_no_shape_of_x():
    check({"x": shapes(1, 2, 4), "r": shapes(1, 2, 5)}, body="y = rms_deploy.RMSNormShift(x, w, w)")


def test_behind_other_nodes():
    with pytest.raises(InputError, match=r"X \(a\) is \[2,8\] and R \(r\) \[3,8\]"):
        check(
            {"x": shapes(1, 2, 4), "r": shapes(1, 3, 4)},
            body="a = Neg(x) y, s = rms_deploy.AddRMSNorm(a, r, w)",
        )


def test_one_symbol_and_an_unknown_rank_pass():
    check({"x": shapes(1, 2, 4)}, "float[b,8] x, float[b,8] r")
    check({"x": shapes(1, 2, 4), "r": shapes(1, 2, 4)}, "float[b,8] x, float[c,8] r", "y = Mul(x, r)")
