"""One evaluator, and the rules of its two callers: few elements and integers too, or floats of any number."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.constants import constant
from rms_deploy.onnx_model.evaluate import OPERATORS, evaluate
from rms_deploy.onnx_model.fold_constants import FoldConstants

STAYS = None
C = "Constant <value = "
FLOATS = f"a = {C}float[2] {{-3, 0.7}}> () b = {C}float[2] {{2, -0.4}}> ()"
INTEGERS = f"a = {C}int64[2] {{-7, 9}}> () b = {C}int64[2] {{2, 2}}> ()"
HALVES = f"f = {C}float[2] {{0.3, 0.7}}> () a = Cast <to = 10> (f) o = {C}float[1] {{1}}> () b = Cast <to = 10> (o)"
ONE = f"a = {C}float[1] {{3}}> ()"
F32, I64, F16 = np.float32, np.int64, np.float16
BF16 = ml_dtypes.bfloat16
A, B = F32([-3, 0.7]), F32([2, -0.4])
P, Q = F16(F32([0.3, 0.7])), F16(1)

CASES = {
    # what it is: (nodes, what `constant` gives, what `FoldConstants` gives)
    "add": (f"{FLOATS} v = Add (a, b)", A + B, A + B),
    "sub": (f"{FLOATS} v = Sub (a, b)", A - B, A - B),
    "mul": (f"{FLOATS} v = Mul (a, b)", A * B, A * B),
    "div": (f"{FLOATS} v = Div (a, b)", A / B, A / B),
    "neg": (f"{FLOATS} v = Neg (a)", -A, -A),
    "sqrt": (f"{FLOATS} v = Sqrt (a)", F32([np.nan, np.sqrt(F32(0.7))]), F32([np.nan, np.sqrt(F32(0.7))])),
    "reciprocal": (f"{FLOATS} v = Reciprocal (a)", 1 / A, 1 / A),
    "pow": (f"{FLOATS} v = Pow (a, two)", A**2, A**2),
    "pow of an integer exponent": (f"{FLOATS} i = {C}int64 {{2}}> () v = Pow (a, i)", *[F32(np.power(A, I64(2)))] * 2),
    "identity": (f"{FLOATS} v = Identity (a)", A, A),
    "add of halves": (f"{HALVES} v = Add (a, b)", P + Q, P + Q),
    "mul of halves": (f"{HALVES} v = Mul (a, a)", P * P, P * P),
    "div of halves": (f"{HALVES} v = Div (b, a)", Q / P, Q / P),
    "integer add": (f"{INTEGERS} v = Add (a, b)", I64([-5, 11]), STAYS),
    "integer sub": (f"{INTEGERS} v = Sub (a, b)", I64([-9, 7]), STAYS),
    "integer mul": (f"{INTEGERS} v = Mul (a, b)", I64([-14, 18]), STAYS),
    "integer div": (f"{INTEGERS} v = Div (a, b)", I64([-3, 4]), STAYS),
    "integer div by zero": (f"a = {C}int64 {{1}}> () b = {C}int64 {{0}}> () v = Div (a, b)", I64(-(2**63)), STAYS),
    "integer mod": (f"{INTEGERS} v = Mod (a, b)", I64([1, 1]), STAYS),
    "integer mod with the sign of C": (f"{INTEGERS} v = Mod <fmod = 1> (a, b)", I64([-1, 1]), STAYS),
    "mod": (f"{FLOATS} v = Mod <fmod = 1> (a, b)", np.fmod(A, B), STAYS),
    "integer max": (f"{INTEGERS} v = Max (a, b)", I64([2, 9]), STAYS),
    "min of three": (f"{FLOATS} v = Min (a, b, two)", F32([-3, -0.4]), F32([-3, -0.4])),
    "shape": ("v = Shape (x)", I64([4, 6]), STAYS),
    "part of a shape": ("v = Shape <start = -1> (x)", I64([6]), STAYS),
    "first of a shape": ("v = Shape <end = 1> (x)", I64([4]), STAYS),
    "integer neg": (f"{INTEGERS} v = Neg (a)", I64([7, -9]), STAYS),
    "integer pow": (f"{INTEGERS} v = Pow (a, b)", I64([49, 81]), STAYS),
    "integer sqrt": (f"a = {C}int64 {{10}}> () v = Sqrt (a)", I64(3), STAYS),
    "integer identity": (f"{INTEGERS} v = Identity (a)", I64([-7, 9]), I64([-7, 9])),
    "range": (f"a = {C}int64 {{1}}> () b = {C}int64 {{4}}> () v = Range (a, b, a)", I64([1, 2, 3]), STAYS),
    "cast to an integer": (f"{FLOATS} v = Cast <to = 7> (a)", I64([-3, 0]), I64([-3, 0])),
    "cast to float16": (f"{FLOATS} v = Cast <to = 10> (a)", F16(A), F16(A)),
    "cast to bfloat16": (f"{FLOATS} v = Cast <to = 16> (a)", A.astype(BF16), A.astype(BF16)),
    "cast to no type": (f"{FLOATS} v = Cast <to = 0> (a)", STAYS, STAYS),
    "cast like a constant": (f"{INTEGERS} v = CastLike (a, two)", F32([-7, 9]), F32([-7, 9])),
    "cast like an input": (f"{INTEGERS} v = CastLike (a, x)", F32([-7, 9]), STAYS),
    "gather": (f"{INTEGERS} i = {C}int64 {{1}}> () v = Gather (a, i)", I64(9), STAYS),
    "gather beyond the end": (f"{INTEGERS} i = {C}int64 {{5}}> () v = Gather (a, i)", STAYS, STAYS),
    "slice": (f"{INTEGERS} i = {C}int64[1] {{1}}> () j = {C}int64[1] {{9}}> () v = Slice (a, i, j)", I64([9]), STAYS),
    "slice backwards": (
        f"{INTEGERS} i = {C}int64[1] {{-1}}> () j = {C}int64[1] {{-9}}> () k = {C}int64[1] {{0}}> () "
        "v = Slice (a, i, j, k, i)",
        I64([9, -7]),
        STAYS,
    ),
    "concat": (f"{INTEGERS} v = Concat <axis = 0> (a, b)", I64([-7, 9, 2, 2]), STAYS),
    "reshape": (f"{FLOATS} i = {C}int64[2] {{2, 1}}> () v = Reshape (a, i)", A.reshape(2, 1), STAYS),
    "reshape to another size": (f"{FLOATS} i = {C}int64[1] {{3}}> () v = Reshape (a, i)", STAYS, STAYS),
    "expand": (f"{ONE} i = {C}int64[2] {{2, 1}}> () v = Expand (a, i)", F32([[3], [3]]), STAYS),
    "unsqueeze": (f"{ONE} v = Unsqueeze (a, last)", F32([[3]]), F32([[3]])),
    "unsqueeze by attribute": (f"{ONE} v = Unsqueeze <axes = [0]> (a)", F32([[3]]), F32([[3]])),
    "squeeze": (f"{ONE} v = Squeeze (a, last)", F32(3), F32(3)),
    "squeeze of what is not one": (f"{FLOATS} v = Squeeze (a, last)", STAYS, STAYS),
    "squeeze without axes": (f"{ONE} v = Squeeze (a)", F32(3), F32(3)),
    "an operator that is not evaluated": (f"{FLOATS} v = Exp (a)", STAYS, STAYS),
    "65 elements": (f"a = {C}float[65] {{{', '.join(['1'] * 65)}}}> () v = Neg (a)", STAYS, np.full(65, F32(-1))),
    "an output of 128 elements": (f"{ONE} i = {C}int64[1] {{128}}> () v = Expand (a, i)", STAYS, STAYS),
    "a range of 2^62 elements": (
        f"a = {C}int64 {{0}}> () b = {C}int64 {{4611686018427387904}}> () d = {C}int64 {{1}}> () v = Range (a, b, d)",
        STAYS,
        STAYS,
    ),
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request, build):
    body, *expected = CASES[request.param]
    return ir.from_proto(build(f"{body} y = Identity (x)", inputs="float[4,6] x")), *expected


def named(model, name):
    return next(value for node in model.graph for value in node.outputs if value.name == name)


def assert_same(actual, expected):
    if expected is STAYS:
        assert actual is None
        return
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(actual.astype(np.float64), expected.astype(np.float64))


def test_constants(case):
    model, expected, _ = case
    assert_same(constant(named(model, "v"), Facts(model)), expected)


def test_fold_constants(case):
    model, _, expected = case
    FoldConstants()(model)
    node = named(model, "v").producer()
    assert_same(node.attributes["value"].as_tensor().numpy() if node.op_type == "Constant" else None, expected)


def test_every_operator_is_in_the_table():
    assert all(any(f" {operator} " in body for body, *_ in CASES.values()) for operator in OPERATORS)


def test_the_type_of_a_cast_like_may_be_given():
    node = ir.node("CastLike", [ir.Value(name="a"), ir.Value(name="like")])
    assert evaluate(node, [I64(3)], to=ir.DataType.FLOAT).dtype == np.float32
    assert evaluate(node, [I64(3)]) is None


def test_a_result_of_small_constants_is_as_large_as_allowed_only():
    node = ir.node("Add", [None, None])
    a, b = np.zeros((2**20, 1), np.float32), np.zeros((1, 2**20), np.float32)
    assert evaluate(node, [a, b], max_size=2**20) is None
    assert evaluate(node, [a[:2], b[:, :3]], max_size=6).shape == (2, 3)
