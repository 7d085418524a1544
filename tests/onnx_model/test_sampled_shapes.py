# ruff: noqa: E501 - a graph a line
"""Two tensors have one shape where they have it at each of the sizes that are tried, and the product exists."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.sampled_shapes import have_one_sampled_shape, sampled_shape

SIZES = "f = Shape (x) i0 = Constant <value_ints = [0]> () i1 = Constant <value_ints = [1]> () i2 = Constant <value_ints = [2]> () i4 = Constant <value_ints = [4]> ()"
PADDED = f"""
    {SIZES} l = Slice (f, i1, i2) r = Mod (l, i4) p = Sub (i4, r) m = Mod (p, i4)
    pads = Concat <axis = 0> (i0, i0, i0, i0, m, i0) o = Pad (x, pads)
"""
CHUNKS = "c = Constant <value_ints = [-1,4,8]> () d = Reshape (o, c) e = Tanh (d)"
BACK = "n = Shape (o) k = Reshape (e, n)"

ONE = {
    "padded to chunks, and cut off again": f"{PADDED} {CHUNKS} {BACK} a = Slice (k, i0, l, i1)",
    "the length times one": f"{SIZES} l = Slice (f, i1, i2) t = Mul (l, i1) b = Slice (f, i0, i1) h = Slice (f, i2, i4) g = Concat <axis = 0> (b, t, h) a = Reshape (x, g)",
}
OTHER = {
    "padded": f"{PADDED} a = Identity (o)",
    "of one element along an axis": f"{SIZES} l = Slice (f, i1, i2) u = Div (l, l) a = Slice (x, i0, u, i1)",
    "cut off where another input ends": f"{SIZES} j = Shape (w) a = Slice (x, i0, j, i1)",
    "a length that the caller gives": "j = Constant <value_ints = [0]> () v = Constant <value_ints = [1]> () a = Slice (x, j, w, v)",
}


def answer(body, build):
    length = "t" if "Shape (w)" in body else "1"
    inputs = f"float[b,s,8] x, float[b,s,8] z, int64[{length}] w"
    model = ir.from_proto(build(f"{body} y = Identity (x)", inputs=inputs))
    facts = Facts(model)
    a = next(value for node in model.graph for value in node.outputs if value.name == "a")
    assert not facts.are_alike(a, model.graph.inputs[1])
    return have_one_sampled_shape(a, model.graph.inputs[1], facts)


@pytest.mark.parametrize("body", ONE.values(), ids=ONE)
def test_one_shape(body, build):
    assert answer(body, build)


@pytest.mark.parametrize("body", OTHER.values(), ids=OTHER)
def test_another_shape(body, build):
    assert not answer(body, build)


def test_a_length_for_which_a_loop_was_written_out(build):
    """Longer sequences do not run at all: no product of both exists, and nothing follows from them."""
    body = f"{SIZES} l = Slice (f, i1, i2) i8 = Constant <value_ints = [8]> () t = Min (l, i8) a = Slice (x, i0, t, i1)"
    assert answer(body, build)


@pytest.mark.parametrize("shapes", ["[?,8] [?,8]", "[a,b,c,d,8] [e,b,c,d,8]", "[a,b,c,d,e,8] [a,b,c,d,a,8]"])
def test_no_two_symbols_are_one_size_throughout(shapes, build):
    one, other = shapes.split()
    model = ir.from_proto(build("y = Identity (x)", inputs=f"float{one} x, float{other} z", outputs=f"float{one} y"))
    assert not have_one_sampled_shape(*model.graph.inputs, Facts(model))


def test_a_dim_that_is_one_number_at_all_sizes(build):
    """A chunk of the last axis, as torch's older exporter writes it."""
    chunk = f"{SIZES} l = Slice (f, i2, i4) u = Div (l, i2) a = Slice (x, i0, u, i2)"
    model = ir.from_proto(build(f"{chunk} y = Identity (x)", inputs="float[b,s,8] x"))
    facts = Facts(model)
    values = {value.name: value for node in model.graph for value in node.outputs}
    assert not isinstance(facts.shape(values["a"])[-1], int)
    batch, length, size = sampled_shape(values["a"], facts)
    assert (batch, length, size) == ("b", "s", 4)
    assert sampled_shape(model.graph.inputs[0], facts) == ("b", "s", 8)


def test_the_model_stays_what_it_was(build):
    model = ir.from_proto(build(f"{ONE['padded to chunks, and cut off again']} y = Identity (a)"))
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    facts = Facts(model)
    assert have_one_sampled_shape(model.graph.outputs[0], model.graph.inputs[0], facts)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_values_of_bodies_are_not_tried(build):
    body = "y = If (c) <then_branch = t () => (float[b,s,8] y1) { y1 = Exp (x) }, else_branch = f () => (float[b,s,8] y2) { y2 = Neg (x) }>"
    model = ir.from_proto(build(body, inputs="float[b,s,8] x, bool c"))
    inside = model.graph[0].attributes["then_branch"].as_graph()[0].outputs[0]
    assert not have_one_sampled_shape(inside, model.graph.inputs[0], Facts(model))
