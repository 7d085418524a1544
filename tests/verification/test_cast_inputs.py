"""Numbers that a model and its cast both hold."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.errors import InputError
from rms_deploy.verification.cast_inputs import cast_inputs, fitted


def model(dtype):
    text = f"""<ir_version: 8, opset_import: ["" : 18]> g ({dtype}[b,8] x, int64[b] i) => ({dtype}[b,8] y)
        {{ y = Neg(x) }}"""
    return ir.from_proto(onnx.parser.parse_model(text))


def inputs(given=None):
    options = {"inputs": given, "shapes": None, "dims": None, "seed": 0}
    return cast_inputs(model("float"), model("float16"), **options)


def test_random_ones_are_in_the_type_of_the_reference_and_rounded():
    drawn = inputs()
    assert list(drawn) == ["normal", "outlier"]
    for feeds in drawn.values():
        assert feeds["x"].dtype == np.float32
        assert np.array_equal(feeds["x"], feeds["x"].astype(np.float16))
        assert feeds["i"].dtype == np.int64


def test_given_ones_are_rounded():
    given = {"x": np.full((1, 8), 1.0001, np.float32), "i": np.zeros(1, np.int64)}
    assert np.all(inputs(given)["given"]["x"] == 1)


def test_given_ones_beyond_the_range_are_refused():
    given = {"x": np.full((1, 8), 1e5, np.float32), "i": np.zeros(1, np.int64)}
    with pytest.raises(InputError, match=r"input x: 1e\+05 was given, beyond the range of float16; .*`keep_io=True`"):
        inputs(given)


def test_infinity_is_in_both():
    given = {"x": np.full((1, 8), -np.inf, np.float32), "i": np.zeros(1, np.int64)}
    assert np.all(inputs(given)["given"]["x"] == -np.inf)


def test_only_floats_are_fitted():
    feeds = fitted({"x": np.ones((1, 8), np.float32), "i": np.ones(1, np.int64)}, model("float16"))
    assert [array.dtype.name for array in feeds.values()] == ["float16", "int64"]
