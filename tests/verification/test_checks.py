"""What passes: within the tolerance, and of each element where that was asked for."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.errors import InputError
from rms_deploy.verification.checks import Limits, checks, per_output

MODEL = ir.from_proto(
    onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[2] x) => (float[2] y, float[2] z, int64[1] s) '
        "{ y = Exp(x) z = Neg(x) s = Shape(x) }"
    )
)
EXPECTED = np.array([1000.0, 1.0], np.float32)
ACTUAL = np.array([1000.0, 1.01], np.float32)


def check(limits, actual=ACTUAL, expected=EXPECTED):
    (only,) = checks("normal", {"y": expected}, {"y": actual}, {}, {}, limits)
    return only


def test_a_small_element_may_hide_in_the_root_of_the_mean_square():
    assert check(Limits(1e-4, 1.0)).passed


@pytest.mark.parametrize(("rtol", "atol", "passed"), [(0.011, None, True), (0.009, None, False), (0.009, 0.005, True)])
def test_each_element_may_be_asked_for_besides(rtol, atol, passed):
    limits = Limits(1e-4, 1.0, *({} if limit is None else {"y": limit} for limit in (rtol, atol)))
    found = check(limits)
    assert found.passed == passed
    limit = f"rtol {rtol:g} and atol {atol or 0:g}"
    assert found.note == ("" if passed else f"1 of 2 elements differ by more than {limit} allow")
    loose = Limits(1e-9, 1.0, {"y": 1.0}, {})
    assert not check(loose).passed, "the tolerance holds all the same"


def test_the_limit_of_another_output_is_not_its_own():
    assert check(Limits(1e-4, 1.0, {"z": 0.0}, {})).passed


def test_nan_in_the_same_place_is_close():
    both = np.array([np.nan, 1.0], np.float32)
    assert check(Limits(1e-4, 1.0, {"y": 1e-6}, {}), both, both).passed


def test_a_limit_for_all_float_outputs_or_by_name():
    assert per_output("rtol", None, MODEL) == {}
    assert per_output("rtol", 0.5, MODEL) == {"y": 0.5, "z": 0.5}
    assert per_output("rtol", {"z": 0.5}, MODEL) == {"z": 0.5}


def test_a_wrong_limit_is_one_line():
    with pytest.raises(InputError, match="no output 'q'; it has y, z, s"):
        per_output("rtol", {"q": 0.5}, MODEL)
    with pytest.raises(InputError, match="`atol` of y is -1; use 0 or more"):
        per_output("atol", {"y": -1}, MODEL)


def test_the_codes_that_differ_are_counted():
    codes = np.array([3, -4, 5, 6], np.int8)
    found = check(Limits(0.0, 0.0), codes + np.array([1, 0, -1, 0], np.int8), codes)
    assert found.passed
    assert found.note == "2 of 4 codes differ, by one"
    assert check(Limits(0.0, 0.0), codes, codes).note == ""
    assert not check(Limits(0.0, 0.0), codes + np.array([2, 0, 0, 0], np.int8), codes).passed
