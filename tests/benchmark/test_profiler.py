"""Which nodes of the graph that ONNX Runtime runs are norms, fused or not, whoever fused them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rms_deploy.benchmark.profiler import measure_operator_times, norm_node_names
from rms_deploy.fusion.fuse import fuse
from rms_deploy.onnx_model.file import save_model

# ONNX Runtime fuses no norm that takes the reciprocal of the root, as torch exports it; the residual Add goes with it.
BODY = """
    r = Add(x, z)
    sq = Mul(r, r)
    ms = ReduceMean(sq, last)
    me = Add(ms, eps)
    rt = Sqrt(me)
    inv = Reciprocal(rt)
    n = Mul(r, inv)
    s = Mul(n, scale)
    t = MatMul(s, w)
    y = Add(t, r)
"""
INPUTS = "float[b,s,8] x, float[b,s,8] z, float[8,8] w"


def saved(build, path):
    model = build(BODY, inputs=INPUTS)
    onnx.save(model, path)
    return path


FEEDS = {"x": np.ones((2, 3, 8), np.float32), "z": np.ones((2, 3, 8), np.float32), "w": np.eye(8, dtype=np.float32)}


def test_the_norm_nodes_are_those_that_fuse_takes_and_the_rest_are_none(build, tmp_path):
    model = ir.load(saved(build, tmp_path / "a.onnx"))
    for node in model.graph:
        node.name = node.outputs[0].name
    assert set(norm_node_names(model)) == {"r", "sq", "ms", "me", "rt", "inv", "n", "s"}
    fused = fuse(model).model
    assert norm_node_names(fused) == {"s": True}


@pytest.mark.parametrize(
    ("fused", "library", "norms"),
    [
        (False, True, {"Add": 2, "Mul": 3, "ReduceMean": 1, "Sqrt": 1, "Reciprocal": 1}),
        (True, True, {"AddRMSNorm": 1}),
        (True, False, {"SimplifiedLayerNormalization": 1, "Add": 1}),
    ],
)
def test_norms_are_the_same_work_before_and_after(build, tmp_path, fused, library, norms):
    path = saved(build, tmp_path / "a.onnx")
    if fused:
        fuse(path, path)
    result = measure_operator_times(path, FEEDS, threads=1, library=library, seconds=0)
    found = {o.name: o.calls for o in result.operators if o.category == "norms"}
    assert found == norms
    assert {o.name: o.calls for o in result.operators if o.category == "matmul"} == {"MatMul": 1}
    assert {o.name: o.calls for o in result.operators if o.category == "rest"} == {"Add": 1}
    assert result.runs == 5
    # x, z, the norm and the sum, 2 x 3 x 8 float32 each; ONNX Runtime counts the scale as a parameter, or not at all.
    assert result.norm_bytes in ((4 * 192, 4 * 192 + 32) if fused and library else (0,))
    assert (result.copy_microseconds is not None) == (fused and library)


def test_nodes_without_a_name_are_told_apart(build, tmp_path):
    model = build("a = Exp(x)\n b = MatMul(a, w)\n y = MatMul(b, w)", inputs="float[b,s,8] x, float[8,8] w")
    assert not any(node.name for node in model.graph.node)
    onnx.save(model, tmp_path / "a.onnx")
    feeds = {name: FEEDS[name] for name in ("x", "w")}
    result = measure_operator_times(tmp_path / "a.onnx", feeds, threads=1, library=False, seconds=0)
    assert {(o.category, o.name): o.calls for o in result.operators} == {("matmul", "MatMul"): 2, ("rest", "Exp"): 1}


def test_a_model_with_a_data_file(build, tmp_path):
    body = BODY.replace("y = Add(t, r)", "u = Add(t, r)\n y = MatMul(u, wide)")
    model = build(body, inputs=INPUTS, outputs="float[b,s,512] y")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((8, 512), np.float32), "wide"))
    save_model(ir.from_proto(model), tmp_path / "a.onnx", external=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before["a.onnx.data"]) >= 4 * 8 * 512
    result = measure_operator_times(tmp_path / "a.onnx", FEEDS, threads=1, library=False, seconds=0)
    assert {o.name: o.calls for o in result.operators if o.category == "matmul"} == {"MatMul": 2}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
