# ruff: noqa: E501 - a graph a line
"""What happens around the norm; how it is recognised is tested piece by piece."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.passes.fuse_rms_norm import FuseRMSNorm

CORE = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r)"
NORM = f"{CORE} y = Mul (n, scale)"


def ops(model):
    return [node.op_type for node in model.graph]


def test_dead_nodes_and_initialisers_go(build, check):
    model = check(build(NORM)).model
    assert ops(model) == ["RMSNorm"]
    assert list(model.graph.initializers) == ["scale"]


def test_the_pass_does_nothing_the_second_time(build):
    model = ir.from_proto(build(NORM))
    assert FuseRMSNorm()(model).modified
    assert not FuseRMSNorm()(model).modified


def test_what_was_dead_before_stays(build, check):
    model = build(f"d = Exp (x) {NORM}")
    assert ops(check(model).model) == ["Exp", "RMSNorm"]


def test_names_and_notes_survive(build):
    model = build(
        f"a = Exp (x) {NORM.replace('(x', '(a').replace(', x)', ', a)')} z = Neg (y)", outputs="float[b,s,8] z"
    )
    model.doc_string, model.producer_name, model.graph.name = "doc", "producer", "name"
    model.metadata_props.add(key="author", value="someone")
    for node in model.graph.node:
        node.name = f"node_{node.output[0]}"
        node.metadata_props.add(key="made by", value=node.op_type)
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("y", 1, ["b", "s", 8], doc_string="normalised"))
    model.graph.value_info[0].metadata_props.add(key="of", value="y")
    fused = ir.to_proto(fuse(model).model)
    assert (fused.doc_string, fused.producer_name, fused.graph.name) == ("doc", "producer", "name")
    assert [(p.key, p.value) for p in fused.metadata_props] == [("author", "someone")]
    assert [(n.name, list(n.input), list(n.output)) for n in fused.graph.node] == [
        ("node_a", ["x"], ["a"]),
        ("node_y", ["a", "scale"], ["y"]),
        ("node_z", ["y"], ["z"]),
    ]
    assert [(p.key, p.value) for p in fused.graph.node[1].metadata_props] == [("made by", "Mul")]
    (y,) = [value for value in fused.graph.value_info if value.name == "y"]
    assert (y.doc_string, y.metadata_props[0].value) == ("normalised", "y")


def test_only_the_domain_is_added_to_the_opsets(build):
    fused = ir.to_proto(fuse(build(NORM)).model)
    assert {o.domain: o.version for o in fused.opset_import} == {"": 18, "com.microsoft": 1, "rms_deploy": 1}


SHARED = {
    "the mean square": ("t = Exp (m)", "float[b,s,1] t"),
    "the root": ("t = Exp (r)", "float[b,s,1] t"),
    "the square": ("t = Exp (q)", "float[b,s,8] t"),
    "the norm without scale": ("t = Exp (n)", "float[b,s,8] t"),
}


@pytest.mark.parametrize(("more", "output"), SHARED.values(), ids=SHARED)
def test_what_something_else_reads_stays(more, output, build, check):
    left = "n)" in more  # its scale stays a Mul
    model = check(build(f"{NORM} {more}", outputs=f"float[b,s,8] y, {output}"), near_misses=int(left)).model
    assert ops(model).count("RMSNorm") == 1


@pytest.mark.parametrize(("value", "shape"), [("m", "b,s,1"), ("r", "b,s,1"), ("q", "b,s,8"), ("n", "b,s,8")])
def test_outputs_of_the_graph_stay(value, shape, build, check):
    check(build(NORM, outputs=f"float[b,s,8] y, float[{shape}] {value}"), near_misses=int(value == "n"))


def test_one_mean_square_for_several_norms(build, check):
    body = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, scale) y2 = Mul (n, half)"
    more = "e3 = Add (m, half) i = Pow (e3, minus_half) y3 = Mul (i, x)"
    outputs = "float[b,s,8] y, float[b,s,8] y2, float[b,s,8] y3"
    result = check(build(f"{body} {more}", outputs=outputs), norms=3)
    assert ops(result.model) == ["RMSNorm"] * 3
    assert sorted(round(norm.epsilon, 4) for norm in result.norms) == [3e-4, 3e-4, 0.5]


def test_a_norm_whose_scale_is_another_end_of_the_same_norm(build, check):
    """Only for an x of one axis does a norm of x have the shape of a scale."""
    model = build(f"{CORE} a = Mul (n, scale) y = Mul (n, a)", inputs="float[8] x", outputs="float[8] y, float[8] a")
    fused = check(model, norms=2, feeds={"x": np.random.default_rng(0).standard_normal(8).astype(np.float32)}).model
    first, second = fused.graph
    assert second.inputs[1] is first.outputs[0]


def test_a_chain_of_norms(build, check):
    second = NORM.replace("(x", "(y").replace(", x)", ", y)")
    for name in "qmern":
        second = second.replace(f"{name} =", f"{name}2 =").replace(f"({name}", f"({name}2")
    second = second.replace(", r)", ", r2)").replace("y = Mul", "y2 = Mul")
    result = check(build(f"{NORM} {second}", outputs="float[b,s,8] y2"), norms=2)
    assert ops(result.model) == ["RMSNorm", "RMSNorm"]


@pytest.mark.parametrize("typed", [True, False], ids=["x of the body", "x of the graph around"])
def test_inside_the_bodies_of_if(typed, build, check):
    inner = f"a = Exp (x) {NORM.replace('(x', '(a').replace(', x)', ', a)')}" if typed else NORM
    body = f"""
        y = If (c) <
            then_branch = t () => (float[b,s,8] y1) {{ {inner.replace("y =", "y1 =")} }},
            else_branch = f () => (float[b,s,8] y2) {{ y2 = Neg (x) }}
        >
    """
    model = build(body, inputs="float[b,s,8] x, bool c")
    for condition in (True, False):
        feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32), "c": np.array(condition)}
        check(model, feeds=feeds)


def test_a_scale_inside_a_body_does_not_join_the_norm_outside(build, check):
    body = f"""
        {CORE}
        y = If (c) <
            then_branch = t () => (float[b,s,8] y1) {{ y1 = Mul (n, scale) }},
            else_branch = f () => (float[b,s,8] y2) {{ y2 = Identity (n) }}
        >
    """
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32), "c": np.array(True)}
    result = check(build(body, inputs="float[b,s,8] x, bool c"), feeds=feeds, near_misses=1)
    assert "read by others too" in result.near_misses[0].reason
    assert result.norms[0].scale == "float32[]"


BRANCHES = """
    q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) i = Identity (r)
    y = If (c) <
        then_branch = t () => (float[b,s,8] y1) { n = Div (x, i) y1 = Mul (n, scale) },
        else_branch = f () => (float[b,s,8] y2) { y2 = Div (x, r) }
    >
"""


@pytest.mark.parametrize("taken", [True, False])
def test_a_root_outside_of_the_branches_that_divide(taken, build, check):
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32), "c": np.array(taken)}
    result = check(build(BRANCHES, inputs="float[b,s,8] x, bool c"), norms=2, feeds=feeds)
    assert ops(result.model) == ["If"]


def test_a_root_outside_of_a_loop_that_divides_stays(build):
    """The norm would be computed in every iteration."""
    body = """
        q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) k = Constant <value = int64 {3}> ()
        y = Loop (k, , x) <body = b (int64 i, bool c, float[b,s,8] v) => (bool d, float[b,s,8] w) {
            d = Identity (c) w = Div (x, r) }>
    """
    result = fuse(build(body))
    assert not result.norms
    assert [miss.reason for miss in result.near_misses] == ["w is in a body of its own, which may run more often"]


def test_the_body_of_a_loop(build, check):
    inner = "q = Mul (v, v) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (v, r) w = Mul (n, scale)"
    body = f"""
        k = Constant <value = int64 {{3}}> ()
        y = Loop (k, , x) <body = b (int64 i, bool c, float[b,s,8] v) => (bool d, float[b,s,8] w) {{ d = Identity (c) {inner} }}>
    """
    check(build(body))


FUNCTION = """
    <ir_version: 8, opset_import: ["" : 18, "local" : 1]>
    g (float[2,3,8] x, float[8] w) => (float[2,3,8] y) { y = local.Norm (x, w) }
    <domain: "local", opset_import: ["" : 18]>
    Norm (x, w) => (y) {
        two = Constant <value = float {2}> () eps = Constant <value = float {3e-4}> () last = Constant <value_ints = [-1]> ()
        q = Pow (x, two) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, w)
    }
"""


def test_a_local_function_whose_epsilon_tells_its_type_is_fused(check):
    (function,) = (f for f in check(onnx.parser.parse_model(FUNCTION)).model.functions.values() if f.domain == "local")
    assert "RMSNorm" in [node.op_type for node in function]


def test_a_local_function_whose_types_are_unknown_is_a_near_miss(near_miss):
    text = FUNCTION.replace("e = Add (m, eps) r = Sqrt (e)", "r = Sqrt (m)")
    text = text.replace("float[8] w) =>", "float[8] w, float16[2,3,8] a, float16[8] b) =>")
    two_types = text.replace("y = local.Norm (x, w)", "y = local.Norm (x, w) z = local.Norm (a, b)")
    near_miss(onnx.parser.parse_model(two_types), piece="casts", reason="element type of x is not known")


def test_a_local_function_whose_call_tells_its_type_is_fused(check):
    check(onnx.parser.parse_model(FUNCTION.replace("e = Add (m, eps) r = Sqrt (e)", "r = Sqrt (m)")))


def test_a_local_function_that_casts_is_fused_but_for_its_scale(check):
    text = FUNCTION.replace("q = Pow (x, two)", "u = Cast <to = 1> (x) q = Pow (u, two)").replace("Div (x", "Div (u")
    model = onnx.parser.parse_model(text)
    (function,) = (f for f in check(model).model.functions.values() if f.domain == "local")
    assert "RMSNorm" in [node.op_type for node in function]


def test_the_bodies_of_our_own_ops_are_left_alone(build):
    fused = fuse(build(NORM)).model
    (function,) = fused.functions.values()
    assert "RMSNorm" not in [node.op_type for node in fuse(fused).model.functions[function.identifier()]]


def test_a_file_without_types_is_inferred(build, check):
    model = build(f"a = Exp (x) {NORM.replace('(x', '(a').replace(', x)', ', a)')}")
    assert not model.graph.value_info
    check(model)


def test_a_graph_that_shape_inference_cannot_read_keeps_what_it_knows(build):
    """An operator that nobody knows stands before the norm; the type of its output is not known."""
    norm = "q = Mul (a, a) m = ReduceMean (q, last) r = Sqrt (m) y = Div (a, r)"
    result = fuse(
        build(f"a = com.microsoft.Unknown (x) {norm} z = com.microsoft.Unknown (y)", outputs="float[b,s,8] z")
    )
    assert not result.norms
    assert "element type of x is not known" in result.near_misses[0].reason


def test_an_epsilon_tells_the_type_of_what_an_unknown_operator_made(build):
    """Whether the scale broadcasts into x cannot be known, so it stays a product."""
    result = fuse(build(f"a = com.microsoft.Unknown (x) {NORM.replace('(x', '(a').replace(', x)', ', a)')}"))
    assert ops(result.model) == ["Unknown", "RMSNorm", "Mul"]


def test_shape_inference_starts_from_what_the_file_says_of_unknown_operators(build):
    norm = NORM.replace("(x", "(c").replace(", x)", ", c)")
    model = build(f"a = com.microsoft.Unknown (x) c = Exp (a) {norm}")
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("a", 1, ["b", "s", 8]))
    result = fuse(model)
    assert result.norms[0].scale == "float32[8]"


def test_unknown_operators_around_a_norm_do_not_matter(build):
    model = build(f"{NORM} z = com.microsoft.Unknown (y)", outputs="float[b,s,8] z")
    assert ops(fuse(model).model) == ["RMSNorm", "Unknown"]


def test_it_is_linear_in_the_graph(build):
    """Ten times the layers take about ten times as long."""
    import time

    def seconds(layers):
        nodes = []
        for i in range(layers):
            a, b = f"x{i}" if i else "x", f"x{i + 1}"
            nodes.append(
                f"q{i} = Mul ({a}, {a}) m{i} = ReduceMean (q{i}, last) e{i} = Add (m{i}, eps) r{i} = Sqrt (e{i}) "
                f"n{i} = Div ({a}, r{i}) s{i} = Mul (n{i}, scale) {b} = Exp (s{i})"
            )
        model = ir.from_proto(build(" ".join(nodes) + f" y = Identity (x{layers})"))
        start = time.perf_counter()
        assert len(fuse(model).norms) == layers
        return time.perf_counter() - start

    seconds(10)
    assert seconds(1000) < 40 * max(seconds(100), 0.01)


def test_a_model_on_which_shape_inference_fails_is_fused_by_what_it_says(build, monkeypatch):
    model = build(NORM)

    def fails(*_, **__):
        raise onnx.shape_inference.InferenceError("no")

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", fails)
    (norm,) = fuse(model).norms
    assert (norm.dtype, norm.n, norm.scale) == ("float32", 8, "float32[8]")
