import onnx.helper
import onnx_ir as ir
import pytest

from rms_deploy.onnx_model import constants
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.constants import constant, integers, scalar, why_not_scalar


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


def test_a_long_chain_of_constants_is_no_recursion(build):
    chain = " ".join(f"a{i + 1} = Mul (a{i}, one)" for i in range(900))
    body = f"a0 = {C}float {{3}}> () {chain} v = Identity (a900)"
    assert scalar(*value(build, body)) == 3


def test_what_doubles_is_computed_once(build, monkeypatch):
    computed = []
    right = constants.evaluate
    monkeypatch.setattr(constants, "evaluate", lambda *a, **how: computed.append(a) or right(*a, **how))
    doubled = " ".join(f"a{i + 1} = Add (a{i}, a{i})" for i in range(40))
    v, facts = value(build, f"a0 = {C}float {{1}}> () {doubled} v = Identity (a40)")
    assert scalar(v, facts) == scalar(v, facts) == 2.0**40
    assert len(computed) == 41


def test_what_varies_is_looked_at_once(build, monkeypatch):
    looks = []
    right = constants._sources
    monkeypatch.setattr(constants, "_sources", lambda v: looks.append(v) or right(v))
    doubled = " ".join(f"a{i + 1} = Add (a{i}, a{i})" for i in range(40))
    v, facts = value(build, f"a0 = Exp (x) {doubled} v = Identity (a40)")
    assert scalar(v, facts) is None
    assert len(looks) < 100


def test_a_size_beyond_what_an_integer_holds(build):
    model = ir.from_proto(build("v = Size (x) y = Identity (x)", inputs="float[4294967296,4294967296] x"))
    assert constant(model.graph[0].outputs[0], Facts(model)) is None


def test_more_axes_than_numpy_has(build):
    model = ir.from_proto(build("y = Mul (x, one)"))
    one = model.graph.initializers["one"]
    one.const_value = ir.TensorProtoTensor(onnx.helper.make_tensor("one", 1, [1] * 99, [1.0]))
    assert constant(one, Facts(model)) is None


def test_data_of_which_nobody_says_where_they_are_are_not_read(build, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").write_bytes(bytes(4))
    model = ir.from_proto(build("y = Mul (x, one)"))
    one = model.graph.initializers["one"]
    one.const_value = ir.ExternalTensor("data", 0, 4, ir.DataType.FLOAT, shape=ir.Shape([]), name="one")
    assert constant(one, Facts(model)) is None
    one.const_value = ir.ExternalTensor(
        "data", 0, 4, ir.DataType.FLOAT, shape=ir.Shape([]), name="one", base_dir=tmp_path
    )
    assert constant(one, Facts(model)) == 0
