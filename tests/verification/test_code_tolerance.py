"""The distance that tipped codes explain, by how many quantisations are in a row."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.verification.code_tolerance import Codes, codes_before_floats, tolerance_behind
from rms_deploy.verification.difference import difference

INT8 = 2.0**-7
QUANTIZE = "a = QuantizeLinear (x, s, z) b = DequantizeLinear (a, s, z)"


def codes_of(body: str, outputs: str = "float[2,4] y", opset: int = 20) -> Codes:
    text = (
        f'<ir_version: 9, opset_import: ["" : {opset}, "rms_deploy" : 1]> g (float[2,4] x, float[2,4] r) '
        f"=> ({outputs}) <float[4] w = {{1, 2, 3, 4}}, float s = {{0.1}}, int8 z = {{0}}> {{ {body} }}"
    )
    return codes_before_floats(ir.from_proto(onnx.parser.parse_model(text)))


@pytest.mark.parametrize(
    ("body", "outputs", "count"),
    [
        ("y = Exp (x)", "float[2,4] y", 0),
        (f"{QUANTIZE} y = Exp (b)", "float[2,4] y", 1),
        (f"{QUANTIZE} c = QuantizeLinear (b, s, z) y = DequantizeLinear (c, s, z)", "float[2,4] y", 2),
        (f"{QUANTIZE} y = Add (b, x)", "float[2,4] y", 1),
        ("y = QuantizeLinear (x, s, z)", "int8[2,4] y", 0),
        ("y, t = rms_deploy.AddRMSNormQuantize <y_scale = 0.1, output_dtype = 3> (x, r, w)",
         "int8[2,4] y, float[2,4] t", 0),
        ("a, t = rms_deploy.AddRMSNormQuantize <y_scale = 0.1, output_dtype = 3> (x, r, w) y = Cast <to = 1> (a)",
         "float[2,4] y", 1),
        ("y = rms_deploy.RMSNorm (x, w)", "float[2,4] y", 0),
    ],
)  # fmt: skip
def test_codes_in_a_row_before_a_float_output(body, outputs, count) -> None:
    assert codes_of(body, outputs).count == count


def test_the_coarsest_code() -> None:
    assert codes_of(f"{QUANTIZE} y = Exp (b)").eps == INT8
    body = "a = rms_deploy.RMSNormQuantize <y_scale = 0.1, output_dtype = 17> (x, w) y = Cast <to = 1> (a)"
    text = body.replace("y = Cast", "k = Cast") + f" {QUANTIZE.replace('(x', '(k')} y = Exp (b)"
    text = text.replace("a = Quant", "q = Quant").replace("(a, s, z)", "(q, s, z)")
    model = ir.from_proto(
        onnx.parser.parse_model(
            '<ir_version: 9, opset_import: ["" : 20, "rms_deploy" : 1]> g (float[2,4] x) => (float[2,4] y) '
            f"<float[4] w = {{1, 2, 3, 4}}, float s = {{0.1}}, int8 z = {{0}}, float8e4m3fn[2,4] a> {{ {text} }}"
        )
    )
    assert codes_before_floats(model) == Codes(2, 2.0**-3)


@pytest.mark.parametrize("size", [2.0, 10.0, 40.0])
@pytest.mark.parametrize("apart", [1e-6, 1e-5, 1e-4])
def test_the_tolerance_holds_what_rounding_tips(apart, size) -> None:
    """`size` is the root of the mean square, in codes. 0.8 sqrt(apart / size) is what the formula says."""
    rng = np.random.default_rng(0)
    x = size * rng.standard_normal(2**21)
    one, other = (np.rint(v) for v in (x, x * (1 + apart * rng.standard_normal(x.size))))
    found = difference(one, other)
    assert found.max_abs == 1
    expected = 0.8 * np.sqrt(apart / size)
    assert 0.7 * expected < found.relative_l2 < 1.3 * expected
    assert found.relative_l2 < tolerance_behind(Codes(1, INT8), apart)


def test_it_ends_at_what_quantisation_rounds() -> None:
    limits = [tolerance_behind(Codes(count, INT8), 1e-6) for count in range(5)]
    assert limits == pytest.approx([1e-6, 1e-3, 1e-6**0.25, 4 * INT8 * 3**0.5, 4 * INT8 * 2])
    assert tolerance_behind(Codes(1, INT8), 0.06) == 0.06, "a half type alone may be further"
