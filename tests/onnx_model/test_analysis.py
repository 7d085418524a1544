"""Facts: types and shapes as far as they are proven, and values that are the same numbers under another name."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.analysis import Facts, is_op


@pytest.fixture
def of(build):
    """The facts of a body, and its values by name."""

    def made(body, inputs="float[b,s,8] x, float16[b,s,8] h, float[b,1,8] z", **options):
        model = ir.from_proto(build(f"{body} y = Neg (x)", inputs=inputs, **options))
        values = {value.name: value for value in (*model.graph.inputs, *model.graph.initializers.values())}
        return Facts(model), values | {value.name: value for node in model.graph for value in node.outputs}

    return made


def test_types_and_shapes_that_the_file_leaves_out_are_inferred(of):
    facts, values = of("a = Cast <to = 10> (x) v = ReduceMean (a, last)")
    assert facts.dtype(values["v"]) == ir.DataType.FLOAT16
    assert facts.shape(values["v"]) == ("b", "s", 1)
    assert facts.rank(values["v"]) == 3


def test_a_type_is_known_by_an_operand_beside_it(of):
    facts, values = of("u = com.microsoft.Unknown (x) w = com.microsoft.Unknown (x) a = Add (u, eps) c = Mul (a, w)")
    assert facts.dtype(values["w"]) == ir.DataType.FLOAT
    assert facts.shape(values["w"]) is None


@pytest.mark.parametrize(
    ("body", "name", "origin"),
    [
        ("a = Identity (x) v = Identity (a)", "v", "x"),
        ("v = Cast <to = 1> (x)", "v", "x"),
        ("v = Cast <to = 1> (h)", "v", "h"),  # widening loses nothing
        ("v = Cast <to = 10> (x)", "v", "v"),  # narrowing does
        ("v = CastLike (h, x)", "v", "h"),
        ("v = Neg (x)", "v", "v"),
    ],
)
def test_the_origin_of_a_value(body, name, origin, of):
    facts, values = of(body)
    assert facts.origin(values[name]) is values[origin]
    assert facts.same(values[name], values[origin])


def test_shapes_are_the_same_only_where_they_are_proven_to_be(of):
    facts, values = of("a = Exp (x) c = Add (x, z)")
    assert facts.same_shape(values["a"], values["x"])
    assert not facts.same_shape(values["z"], values["x"])
    assert facts.has_shape_of(values["a"], values["x"])
    assert not facts.has_shape_of(None, values["x"])


@pytest.mark.parametrize(("target", "source"), [("h0 = Shape (x)", "m"), ("h0 = Shape (m)", "v")])
def test_what_is_expanded_to_the_shape_of_x(target, source, of):
    facts, values = of(f"m = ReduceMean (x, last) {target} v = Expand (m, h0)")
    assert facts.unexpanded(values["v"], values["x"]) is values[source]


def test_an_initializer_that_is_an_input_too_may_be_overridden(build):
    proto = build("y = Add (x, eps)")
    proto.graph.input.add().CopyFrom(proto.graph.input[0])
    proto.graph.input[1].name = "eps"
    model = ir.from_proto(proto)
    assert Facts(model).is_overridable(model.graph.initializers["eps"])
    model.ir_version = 3  # before which every initialiser had to be an input
    assert not Facts(model).is_overridable(model.graph.initializers["eps"])


def test_the_domain_of_an_operator_counts():
    assert is_op(ir.node("Add", []), "Mul", "Add")
    assert not is_op(ir.node("Add", [], domain="local"), "Add")
    assert not is_op(None, "Add")
