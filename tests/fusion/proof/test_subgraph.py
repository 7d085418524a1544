"""A norm cut out of its model: what it takes along, and why it cannot be cut out."""

import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse

NORM = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, scale)"


UNPROVEN = {
    "unknown shape": (
        "a = com.microsoft.Unknown (x)" + NORM.replace("(x", "(a").replace(", x)", ", a)"),
        "is not known",
    ),
}


@pytest.mark.parametrize(("body", "reason"), UNPROVEN.values(), ids=UNPROVEN)
def test_what_cannot_be_run_says_why(body, reason, build):
    (norm,) = fuse(build(body)).norms
    assert norm.max_ulp is None
    assert reason in norm.unproven


def test_large_static_shapes_are_run_small(build):
    model = build(NORM, inputs="float[64,4096,8] x", outputs="float[64,4096,8] y")
    (norm,) = fuse(model).norms
    assert norm.max_ulp == 0


def test_weights_are_not_loaded(build):
    """A scale is an input of the subgraph, so its numbers do not matter."""
    model = ir.from_proto(
        build(NORM.replace("scale", "w"), inputs="float[b,s,512] x, float[512] w", outputs="float[b,s,512] y")
    )
    scale = model.graph.inputs.pop()

    def fail():
        raise AssertionError

    scale.const_value = ir.LazyTensor(fail, dtype=ir.DataType.FLOAT, shape=ir.Shape([512]), name="w")
    model.graph.register_initializer(scale)
    assert len(fuse(model).norms) == 1


def test_a_size_read_from_a_part_of_the_norm(build):
    """The square is computed, not made up, though only its shape is read besides."""
    body = """q = Mul (x, x) h = Shape (q) i = Constant <value = int64 {-1}> () g = Gather (h, i) f = Cast <to = 1> (g)
        t = ReduceSum (q, last) m = Div (t, f) e = Add (m, eps) r = Sqrt (e) y = Div (x, r)"""
    (norm,) = fuse(build(body, inputs="float[b,s,h] x", outputs="float[b,s,h] y")).norms
    assert norm.max_ulp == 0


def test_x_as_its_own_scale(build):
    """Only for an x of one axis does x have the shape of a scale."""
    model = build(NORM.replace("scale", "x"), inputs="float[8] x", outputs="float[8] y")
    (norm,) = fuse(model).norms
    assert (norm.max_ulp, norm.scale) == (0, "float32[8]")
