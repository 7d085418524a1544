"""A norm cut out of its model: what it takes along, and why it cannot be cut out."""

import numpy as np
import onnx
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


EPSILON = "Constant <value = float {3e-4}> ()"


def external(proto, folder):
    """The same with the epsilon of a Constant node in a file in `folder`."""
    (tensor,) = (a.t for node in proto.graph.node for a in node.attribute if node.op_type == "Constant")
    (folder / "data").write_bytes(tensor.raw_data or np.float32(tensor.float_data).tobytes())
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="data")
    return proto


def test_data_in_another_file_are_read_beside_the_model(build, tmp_path, monkeypatch):
    """And not in the working folder, which has a file of that name too."""
    for name in ("model", "work"):
        (tmp_path / name).mkdir()
    proto = external(build(f"c = {EPSILON} {NORM.replace('eps', 'c')}"), tmp_path / "model")
    onnx.save(proto, tmp_path / "model" / "model.onnx")
    (tmp_path / "work" / "data").write_bytes(np.float32(7).tobytes())
    monkeypatch.chdir(tmp_path / "work")
    (norm,) = fuse(tmp_path / "model" / "model.onnx").norms
    assert (norm.max_ulp, norm.epsilon) == (0, pytest.approx(3e-4))


def test_more_axes_than_numpy_has_in_all_versions(build):
    dims = ",".join(["1"] * 59 + ["8"])
    (norm,) = fuse(build(NORM, inputs=f"float[{dims}] x", outputs=f"float[{dims}] y")).norms
    assert (norm.max_ulp, norm.scale) == (None, "float32[8]")
    assert norm.unproven == "it cannot be run over the axes [-1] of a tensor of rank 60"


def test_an_input_of_any_size_is_not_made_up(build):
    body = NORM.replace("eps", "f").replace("q = Mul", "f = ReduceMax <keepdims = 0> (z) q = Mul")
    model = build(body, inputs="float[b,s,8] x, float[1099511627776] z")
    (miss,) = fuse(model).near_misses
    assert miss.piece == "epsilon"
