import numpy as np
import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.passes.fuse_add_rms_norm import FuseAddRMSNorm

NORM = "q = Mul (h, h) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (h, r) y = Mul (n, scale)"
ADD = f"h = Add (x, z) {NORM}"
TWO = "float[b,s,8] x, float[b,s,8] z"


def ops(result):
    return [node.op_type for node in result.model.graph]


def test_the_sum_of_two(build, check):
    result = check(build(ADD, inputs=TWO))
    assert ops(result) == ["AddRMSNorm"]
    assert [value.name for value in result.model.graph[0].outputs] == ["y", "h"]


@pytest.mark.parametrize("shape", ["[b,8]", "[2,8]", "[b,s,8]", "[b,2,s,8]"])
def test_ranks(shape, build, check):
    model = build(ADD, inputs=f"float{shape} x, float{shape} z", outputs=f"float{shape} y")
    assert ops(check(model)) == ["AddRMSNorm"]


def test_without_residual(build, check):
    assert ops(check(build(ADD, inputs=TWO), residual=False)) == ["Add", "RMSNorm"]


def test_the_sum_is_kept_for_what_else_reads_it(build, check):
    result = check(build(f"{ADD} t = Exp (h)", inputs=TWO, outputs="float[b,s,8] y, float[b,s,8] t"))
    assert ops(result) == ["AddRMSNorm", "Exp"]


def test_the_sum_is_an_output_of_the_graph(build, check):
    assert ops(check(build(ADD, inputs=TWO, outputs="float[b,s,8] h, float[b,s,8] y"))) == ["AddRMSNorm"]


def test_a_reader_between_the_add_and_the_norm(build, check):
    body = ADD.replace(" q =", " t = Exp (h) q =")
    assert ops(check(build(body, inputs=TWO, outputs="float[b,s,8] t, float[b,s,8] y"))) == ["AddRMSNorm", "Exp"]


def test_a_sum_of_three(build, check):
    body = ADD.replace("Add (x, z)", "Add (a, x)").replace("h =", "a = Add (x, z) h =", 1)
    assert ops(check(build(body, inputs=TWO))) == ["Add", "AddRMSNorm"]


def test_x_plus_x(build, check):
    assert ops(check(build(ADD.replace("(x, z)", "(x, x)")))) == ["AddRMSNorm"]


def test_two_norms_of_one_sum(build, check):
    result = check(build(f"{ADD} y2 = Mul (n, half)", inputs=TWO, outputs="float[b,s,8] y, float[b,s,8] y2"), norms=2)
    assert sorted(ops(result)) == ["AddRMSNorm", "RMSNorm"]


def test_a_chain_of_residuals(build, check):
    """Post-norm and pre-norm in one: the sum and the norm of it are both added to."""
    second = NORM.replace("(h, h)", "(k, k)").replace("(h, r)", "(k, r2)").replace("y =", "y2 =")
    for name in "qmern":
        second = (
            second.replace(f"{name} =", f"{name}2 =")
            .replace(f"({name},", f"({name}2,")
            .replace(f"({name})", f"({name}2)")
        )
    body = f"{ADD} k = Add (h, y) {second}"
    result = check(build(body, inputs=TWO, outputs="float[b,s,8] y2, float[b,s,8] k"), norms=2, through_layers=True)
    assert ops(result) == ["AddRMSNorm", "AddRMSNorm"]


KEPT = {
    "a bias": "float[b,s,8] x, float[8] z",
    "a row": "float[b,s,8] x, float[1,1,8] z",
    "a column": "float[b,s,8] x, float[b,s,1] z",
    "x is broadcast": "float[8] x, float[b,s,8] z",
    "unknown batch": "float[b,s,8] x, float[?,s,8] z",
    "another symbol": "float[b,s,8] x, float[c,s,8] z",
}


@pytest.mark.parametrize("inputs", KEPT.values(), ids=KEPT)
def test_a_residual_that_may_be_broadcast_stays_an_add(inputs, build):
    result = fuse(build(ADD, inputs=inputs))
    assert ops(result) == ["Add", "RMSNorm"]


def test_shapes_that_only_inference_knows(build, check):
    body = ADD.replace("h = Add (x, z)", "a = Exp (x) c = Tanh (z) h = Add (a, c)")
    model = build(body, inputs=TWO)
    assert not model.graph.value_info
    assert ops(check(model)) == ["Exp", "Tanh", "AddRMSNorm"]


@pytest.mark.parametrize(("dtype", "code"), [("float16", 10), ("bfloat16", 16)])
def test_statistics_of_the_rounded_sum(dtype, code, build, check):
    body = f"""
        h = Add (x, z) u = Cast <to = 1> (h) {NORM.replace("h", "u").replace("y =", "o =")} y = Cast <to = {code}> (o)
    """
    model = build(body, inputs=f"{dtype}[b,s,8] x, {dtype}[b,s,8] z", outputs=f"{dtype}[b,s,8] y, {dtype}[b,s,8] h")
    result = check(model)
    assert ops(result) == ["AddRMSNorm"]
    assert result.norms[0].dtype == dtype


@pytest.mark.parametrize(("dtype", "code"), [("float16", 10), ("bfloat16", 16)])
def test_statistics_of_the_unrounded_sum_are_no_add_rms_norm(dtype, code, build, check):
    """The sum that is normalised is float32, and the one that goes on is rounded: AddRMSNorm would differ."""
    body = f"""
        a = Cast <to = 1> (x) c = Cast <to = 1> (z) h = Add (a, c) s16 = Cast <to = {code}> (h)
        {NORM.replace("y =", "o =")} y = Cast <to = {code}> (o)
    """
    outputs = f"{dtype}[b,s,8] y, {dtype}[b,s,8] s16"
    result = check(build(body, inputs=f"{dtype}[b,s,8] x, {dtype}[b,s,8] z", outputs=outputs))
    assert ops(result) == ["AddFloat32RMSNorm"]


def test_a_scale_that_is_computed_after_the_sum(build, check):
    body = ADD.replace(" n =", " t = Exp (w) n =").replace("scale", "t")
    result = check(build(body, inputs=f"{TWO}, float[8] w"))
    assert ops(result) == ["Exp", "AddRMSNorm"]


def test_a_scale_that_is_computed_from_the_sum(build, check):
    body = ADD.replace(" n =", " k = ReduceMax <keepdims = 0> (h) n =").replace("scale", "k")
    result = check(build(body, inputs=TWO), near_misses=1)
    assert ops(result) == ["Add", "ReduceMax", "RMSNorm"]
    assert result.near_misses[0].left == "residual"
    assert "its sum is read before the scale of the norm is computed" in result.near_misses[0].reason


def test_a_scale_that_is_the_sum(build):
    """The op cannot read what it gives. In three dims the product with the sum is no scale."""
    body = ADD.replace("scale", "h")
    result = fuse(build(body, inputs="float[8] x, float[8] z", outputs="float[8] y"), verify=False)
    assert ops(result) == ["Add", "RMSNorm"]
    assert [miss.left for miss in result.near_misses] == ["residual"]


def test_a_scale_of_several_rows(build, check):
    body = ADD.replace("scale", "w")
    assert ops(check(build(body, inputs=f"{TWO}, float[b,1,8] w"))) == ["AddRMSNorm"]


def test_a_gate_that_is_computed_from_the_sum(build, check):
    body = ADD.replace(" n =", " g = Sigmoid (h) n =").replace("scale", "g")
    assert ops(check(build(body, inputs=TWO))) == ["AddRMSNorm", "Sigmoid", "Mul"]


def test_a_sum_that_is_read_inside_a_body(build, check):
    body = f"""
        {ADD} o = If (c) <
            then_branch = t () => (float[b,s,8] y1) {{ y1 = Mul (h, y) }},
            else_branch = f () => (float[b,s,8] y2) {{ y2 = Identity (h) }}
        >
    """
    feeds = {
        name: np.random.default_rng(i).standard_normal((2, 3, 8)).astype(np.float32) for i, name in enumerate("xz")
    }
    model = build(body, inputs=f"{TWO}, bool c", outputs="float[b,s,8] o")
    assert ops(check(model, feeds={**feeds, "c": np.array(True)})) == ["AddRMSNorm", "If"]


def test_an_op_that_is_fused_already_takes_its_add(build):
    fused = fuse(build(ADD, inputs=TWO), residual=False).model
    result = fuse(fused)
    assert ops(result) == ["AddRMSNorm"]
    assert len(result.norms) == 1


def test_the_pass_does_nothing_the_second_time(build):
    model = fuse(build(ADD, inputs=TWO), residual=False).model
    assert FuseAddRMSNorm()(model).modified
    assert not FuseAddRMSNorm()(model).modified


def test_a_partial_norm_has_no_residual_form(build, check):
    first = "z0 = Constant <value_ints = [0]> () k = Constant <value_ints = [3]> () f = Slice (h, z0, k, last)"
    body = ADD.replace("q = Mul (h, h)", f"{first} q = Mul (f, f)")
    assert ops(check(build(body, inputs=TWO))) == ["Add", "PartialRMSNorm"]


def test_names_of_both_outputs_survive(build):
    model = ir.to_proto(fuse(build(f"{ADD} o = Add (h, y)", inputs=TWO, outputs="float[b,s,8] o")).model)
    assert list(model.graph.node[-1].input) == ["h", "y"]
