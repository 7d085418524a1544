import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.constants import integers, scalar, why_not_scalar


def value(build, body):
    model = ir.from_proto(build(f"{body} y = Identity (x)", inputs="float[4,6] x, float z"))
    found = {v.name: v for node in model.graph for v in node.outputs} | {v.name: v for v in model.graph.inputs}
    return found["v"], Facts(model)


C = "Constant <value = "
SCALARS = {
    "int Constant": (f"v = {C}int64 {{3}}> ()", 3),
    "float Constant": (f"v = {C}float[1] {{0.5}}> ()", 0.5),
    "value_int": ("v = Constant <value_int = 7> ()", 7),
    "cast, truncated": (f"a = {C}float {{2.75}}> () v = Cast <to = 7> (a)", 2),
    "cast, rounded to float16": (
        f"a = {C}double {{0.1}}> () b = Cast <to = 10> (a) v = Cast <to = 1> (b)",
        0.0999755859375,
    ),
    "cast like": (f"a = {C}int64 {{3}}> () v = CastLike (a, x)", 3),
    "integer division truncates": (f"a = {C}int64 {{-7}}> () b = {C}int64 {{2}}> () v = Div (a, b)", -3),
    "arithmetic": (f"a = {C}float {{3}}> () b = Mul (a, a) c = Sub (b, a) d = Neg (c) v = Add (d, a)", -3),
    "square root": (f"a = {C}float {{9}}> () v = Sqrt (a)", 3),
    "power": (f"a = {C}float {{9}}> () v = Pow (a, half)", 3),
    "reciprocal": (f"a = {C}float {{8}}> () v = Reciprocal (a)", 0.125),
    "dim of x": (f"s = Shape (x) i = {C}int64 {{1}}> () v = Gather (s, i)", 6),
    "size of x": ("v = Size (x)", 24),
    "rank of x": ("s = Shape (x) v = Size (s)", 2),
    "squeezed": (f"s = Shape (x) i = {C}int64[1] {{0}}> () g = Gather (s, i) v = Squeeze (g, i)", 4),
    "unsqueezed": (f"a = {C}float {{3}}> () i = {C}int64[1] {{0}}> () v = Unsqueeze (a, i)", 3),
    "reshaped": (f"a = {C}float {{3}}> () i = {C}int64[2] {{1, 1}}> () v = Reshape (a, i)", 3),
}


@pytest.mark.parametrize(("body", "expected"), SCALARS.values(), ids=SCALARS)
def test_scalar(body, expected, build):
    assert scalar(*value(build, body)) == expected


def test_integers(build):
    body = f"s = Shape (x) a = {C}int64[1] {{1}}> () v = Concat <axis = 0> (s, a)"
    assert integers(*value(build, body)) == (4, 6, 1)
    assert integers(*value(build, f"a = {C}int64 {{1}}> () b = {C}int64 {{4}}> () v = Range (a, b, a)")) == (1, 2, 3)
    assert integers(*value(build, f"v = {C}float {{1}}> ()")) is None


NONE = {
    "graph input": ("v = Identity (z)", "is not constant"),
    "run time": ("v = ReduceMax (x)", "is not constant (v is computed at run time)"),
    "many": (f"v = {C}float[2] {{1, 2}}> ()", "is no scalar: it has the shape [2]"),
    "malformed": (f"a = {C}float[2] {{1, 2}}> () i = {C}int64[1] {{3}}> () v = Reshape (a, i)", "is not constant"),
    "too many to evaluate": (
        f"a = {C}float {{3}}> () i = {C}int64[2] {{900, 900}}> () v = Expand (a, i)",
        "is not constant",
    ),
}


@pytest.mark.parametrize(("body", "reason"), NONE.values(), ids=NONE)
def test_no_scalar(body, reason, build):
    v, facts = value(build, body)
    assert scalar(v, facts) is None
    assert reason in why_not_scalar(v, facts)


def test_reading_a_constant_does_not_touch_it(build):
    """onnx-ir's own reader renames the tensor, and so changes the file."""
    model = ir.from_proto(build(f"v = {C}float {{3}}> () y = Mul (x, v)", inputs="float[4,6] x"))
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    assert scalar(model.graph[0].outputs[0], Facts(model)) == 3
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
