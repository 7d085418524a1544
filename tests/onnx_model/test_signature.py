"""What a model's inputs are, and what they may hold."""

from __future__ import annotations

import json

import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.errors import InputError
from rms_deploy.onnx_model.signature import TensorSpec, input_specs, output_specs, require_same


def model(inputs: str, body: str = "y = Identity(x)", outputs: str = "float[2] y", initializers: str = "") -> ir.Model:
    text = f'<ir_version: 8, opset_import: ["" : 18]> g ({inputs}) => ({outputs}) {initializers} {{ {body} }}'
    return ir.from_proto(onnx.parser.parse_model(text))


def limit(body: str) -> int | None:
    graph = model(
        "int64[2] ids",
        body + " y = Cast<to=1>(ids)",
        initializers="<float[5,3] table = {0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}, float[4] short = {0,0,0,0}, "
        "int64[1] one = {1}>",
    )
    return input_specs(graph)["ids"].index_limit


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", None),
        ("e = Gather(table, ids)", 5),
        ("e = Gather<axis=1>(table, ids)", 3),
        ("e = Gather<axis=-1>(table, ids)", 3),
        ("e = Gather(table, ids) f = Gather(short, ids)", 4),
        ("a = Cast<to=6>(ids) b = Unsqueeze(a, one) c = Reshape(b, one) e = Gather(table, c)", 5),
        ("a = Concat<axis=0>(one, ids) e = Gather(table, a)", 5),
        ("a = Add(ids, ids) e = Gather(table, a)", None),
        ("e = Gather(ids, one)", None),
    ],
)
def test_an_index_is_limited_by_the_smallest_axis_that_it_indexes(body, expected):
    assert limit(body) == expected


def test_a_limit_is_found_inside_a_subgraph():
    body = (
        "c = Constant<value = bool {1}>() "
        "e = If(c) <then_branch = t () => (float[2,3] a) { a = Gather(table, ids) },"
        " else_branch = f () => (float[2,3] b) { b = Gather(table, ids) }>"
    )
    assert limit(body) == 5


def test_an_input_with_an_initializer_need_not_be_fed():
    graph = model("float[2] x, float[2] w", "y = Add(x, w)", initializers="<float[2] w = {1, 2}>")
    assert list(input_specs(graph)) == ["x"]


def test_describes_as_a_user_writes_it():
    specs = input_specs(model("bfloat16[batch,?,3] x, int64 n"))
    assert specs["x"].describe() == "bfloat16[batch,?,3]"
    assert specs["n"].describe() == "int64[]"


def test_what_is_no_tensor_of_numbers_is_refused():
    with pytest.raises(InputError, match=r"input x has type .*; only tensors of numbers"):
        input_specs(model("string[2] x"))
    with pytest.raises(InputError, match=r"input x has type .*; only tensors of numbers"):
        input_specs(model("seq(float[2]) x"))


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ("float[2] z", "float[2] y", "inputs differ: x in the first, z in the second"),
        ("float[2] x, float[2] z", "float[2] y", "inputs differ: x in the first, x, z in the second"),
        ("float[2] x", "float[2] z", "outputs differ"),
        ("float16[2] x", "float[2] y", "input x is float32\\[2\\] in the first model and float16\\[2\\] in the second"),
        ("float[3] x", "float[2] y", "input x is .*; give two models of one signature"),
        ("float[2,1] x", "float[2] y", "input x is"),
        ("float[2] x", "float16[2] y", "output y is"),
    ],
)
def test_signatures_that_differ_are_named(inputs, outputs, message):
    with pytest.raises(InputError, match=message):
        require_same(model("float[2] x"), model(inputs, "", outputs))


def test_a_dynamic_size_agrees_with_any():
    require_same(model("float[2] x"), model("float[n] x", outputs="float[m] y"))
    assert output_specs(model("float[2] x")).keys() == {"y"}


def test_values_that_are_moved_around_again_and_again_are_followed_once():
    moved = " ".join(f"a{i + 1} = Concat <axis = 0> (a{i}, a{i})" for i in range(40))
    text = (
        '<ir_version: 8, opset_import: ["" : 18]> g (int64[n] i) => (float[m,2] y) '
        f"<float[3,2] table = {{1, 2, 3, 4, 5, 6}}> {{ a0 = Identity (i) {moved} y = Gather (table, a40) }}"
    )
    assert input_specs(ir.from_proto(onnx.parser.parse_model(text)))["i"].index_limit == 3


@pytest.mark.parametrize("text", ["float[batch,seq,8]", "bfloat16[2,?]", "bool[]", "int64"])
def test_a_spec_is_the_same_after_json(text: str) -> None:
    spec = input_specs(model(f"{text} x"))["x"]
    again = TensorSpec.from_dict("x", json.loads(json.dumps(spec.to_dict())))
    assert again.describe() == spec.describe()
    assert (again.name, again.dtype, again.shape) == ("x", spec.dtype, spec.shape)


def test_another_float_type_agrees_only_if_that_is_asked_for():
    require_same(model("float[2] x"), model("float16[2] x", outputs="bfloat16[2] y"), any_float=True)
    with pytest.raises(InputError, match="input x is"):
        require_same(model("float[2] x"), model("int32[2] x", "", "float[2] y"), any_float=True)
