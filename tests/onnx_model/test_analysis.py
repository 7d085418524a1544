"""Facts: types and shapes as far as they are proven, and values that are the same numbers under another name."""

from __future__ import annotations

import onnx
import onnx.parser
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
    assert facts.same_shape(values["a"], values["x"], exactly=False)
    assert not facts.same_shape(values["z"], values["x"], exactly=False)
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


STALE = {
    "contradicted by inference": ("v = Exp (x)", ("b", "s", 8)),
    "of a result that nothing tells the shape of": ("v = Reshape (x, z)", None),
    "of branches": (
        "v = If (c) <then_branch = one () => (float[b,s,8] a) { a = Mul (x, tall) }, "
        "else_branch = other () => (float[b,s,8] d) { d = Exp (x) }>",
        None,
    ),
}


@pytest.mark.parametrize(("body", "expected"), STALE.values(), ids=STALE)
def test_what_the_file_says_of_the_shape_of_a_result_is_not_used(body, expected, of):
    inputs = "float[b,s,8] x, int64[n] z, bool c, float[2,1,1,1] tall"
    facts, values = of(body, inputs=inputs)
    value = values["v"]
    value.shape = ir.Shape([7])
    assert facts.shape(value) == expected
    assert facts.likely_shape(value) == (expected or (7,))


def test_of_an_operator_that_nobody_knows_the_file_is_believed(build):
    proto = build("v = com.microsoft.Unknown (x) y = Exp (v)")
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("v", 1, ["b", 3]))
    model = ir.from_proto(proto)
    assert Facts(model).shape(model.graph[1].outputs[0]) == ("b", 3)


def test_a_value_that_a_pass_makes_is_known_by_what_the_pass_says(of):
    facts, values = of("v = Exp (x)")
    made, like = ir.Value(name="new", shape=ir.Shape([4, 8])), ir.Value(name="other", shape=ir.Shape([7]))
    facts.add(like, like=values["v"])
    assert facts.shape(made) == (4, 8)
    assert facts.shape(like) == ("b", "s", 8)


def test_an_initializer_that_a_caller_may_replace_is_as_it_is_declared(build):
    proto = build("y = Mul (x, scale)")
    proto.graph.input.append(onnx.helper.make_tensor_value_info("scale", 1, ["n"]))
    model = ir.from_proto(proto)
    assert Facts(model).shape(model.graph.initializers["scale"]) == ("n",)


def test_a_symbol_of_two_inputs_proves_nothing_exactly(of):
    facts, values = of("a = Exp (x)", inputs="float[b,s,8] x, float[b,s,8] z")
    assert facts.same_shape(values["x"], values["z"], exactly=False)
    assert not facts.same_shape(values["x"], values["z"])
    assert not facts.same_dim("b", "b")
    assert facts.same_dim(8, 8)
    facts, values = of("a = Exp (x)", inputs="float[b,s,8] x")
    assert facts.same_shape(values["x"], values["a"])
    assert facts.same_dim("b", "b")


def test_two_products_have_one_shape_if_their_operands_have(of):
    inputs = "float[b,s,8] x, float[1,t,8] c, float[1,t,8] d, float[1,u,8] e"
    facts, values = of("v = Mul (x, c) w = Sub (x, d) z = Mul (x, e) n = Exp (v)", inputs=inputs)
    assert facts.are_alike(values["v"], values["w"])
    assert not facts.same_shape(values["v"], values["w"], exactly=False)
    assert not facts.are_alike(values["v"], values["z"])
    assert not facts.are_alike(values["v"], values["x"])


FUNCTION = """<ir_version: 10, opset_import: ["" : 18, "local" : 1]> g (float[3,8] x, TYPE[3,8] z) => (float[3,8] y)
    { y = local.F (x) w = local.F (z) } <domain: "local", opset_import: ["" : 18]> F (a) => (o)
    { e = Exp (a) o = Neg (e) }"""


@pytest.mark.parametrize(("dtype", "expected"), [("float", ir.DataType.FLOAT), ("float16", None)])
def test_types_inside_a_function_are_those_of_its_callers(dtype, expected):
    proto = onnx.parser.parse_model(FUNCTION.replace("TYPE", dtype))
    proto.functions[0].value_info.append(onnx.helper.make_tensor_value_info("e", onnx.TensorProto.DOUBLE, [7]))
    model = ir.from_proto(proto)
    e = model.functions["local", "F", ""][0].outputs[0]
    assert e.dtype == ir.DataType.DOUBLE
    assert (Facts(model).dtype(e), Facts(model).shape(e)) == (expected, (3, 8) if expected else None)


def test_the_origin_is_looked_for_in_a_bounded_number_of_steps(build):
    chain = " ".join(f"a{i + 1} = Identity (a{i})" for i in range(100))
    model = ir.from_proto(build(f"a0 = Exp (x) {chain} y = Neg (a100)"))
    origin = Facts(model).origin(model.graph[100].outputs[0])
    assert 0 < int(origin.name[1:]) < 100


def test_a_symbol_of_the_input_of_a_body_is_one_of_several_sizes(of):
    branch = "h () => (float[b,s,8] d) { d = Neg (x) }"
    turn = "t (int64 i, bool k, float[b,s,8] c) => (bool j, float[b,s,8] e) { j = Identity (k) e = Neg (c) }"
    inputs = "float[b,s,8] x, int64 n, bool c"
    assert of(f"a = If (c) <then_branch = {branch}, else_branch = {branch}>", inputs=inputs)[0].same_dim("b", "b")
    assert not of(f"a = Loop (n, c, x) <body = {turn}>", inputs=inputs)[0].same_dim("b", "b")
