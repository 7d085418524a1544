"""The largest numbers of a model, and the nodes that float16 has no room for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from rms_deploy.conversion.ranges import largest_values, out_of_range
from rms_deploy.errors import InputError

X = {"x": np.array([[1, -2, 3, 0, 0, 0, 0, 4]], np.float32)}
FLOAT16 = ir.DataType.FLOAT16


def kept(model, **options):
    found = out_of_range(model, largest_values(model, [X]), FLOAT16, keep_io=options.get("keep_io", True))
    return {node.op_type: reason for node, reason in found.items()}


def test_values_and_weights(prepared):
    model = prepared("a = Mul(x, w) y = Neg(a)", constants="float w = {-500}")
    assert largest_values(model, [X]) == {"x": 4, "w": 500, "a": 2000, "y": 2000}
    assert [node.op_type for node in model.graph] == ["Mul", "Neg"]  # as it was


def test_the_largest_of_several_samples(prepared):
    model = prepared("y = Neg(x)")
    assert largest_values(model, [X, {"x": 2 * X["x"]}, X])["y"] == 8


def test_masks_infinities_and_nan_do_not_count(prepared):
    body = "m = Where(c, x, lowest) r = Log(x) y = Max(m, r)"
    constants = "bool[8] c = {1,1,1,1,1,1,1,0}, float lowest = {-3.4028234e38}"
    largest = largest_values(prepared(body, constants=constants), [X])
    assert largest["m"] == 3
    assert largest["lowest"] == 0
    assert largest["r"] == pytest.approx(np.log(4))


@pytest.mark.parametrize(
    ("scale", "reason"),
    [
        ("4000", None),
        ("5000", "a has at most 2e+04, over 1.64e+04"),
        ("70000", "w has at most 7e+04, over 1.64e+04"),
        ("1e-5", "w has at most 1e-05, under 6.1e-05"),
        ("0", None),
    ],
)
def test_what_is_out_of_range(prepared, scale, reason):
    model = prepared(
        "a = Mul(x, w) b = Clip(a, low, high) y = Neg(b)",
        constants=f"float w = {{{scale}}}, float low = {{-1}}, float high = {{1}}",
    )
    found = kept(model)
    assert found.get("Mul") == reason
    assert "Neg" not in found or scale == "1e-5"


def test_an_output_that_is_too_large_is_named(prepared):
    model = prepared("y = Mul(x, w)", constants="float w = {10000}")
    with pytest.raises(InputError, match=r"y has at most 4e\+04 for the sample inputs, over 1.64e\+04: .*keep_io=True"):
        kept(model, keep_io=False)
    assert list(kept(model)) == ["Mul"]


def test_a_model_without_float32_values_inside(prepared):
    model = prepared("y = Shape(x)", outputs="int64[2] y")
    assert largest_values(model, [X]) == {}
