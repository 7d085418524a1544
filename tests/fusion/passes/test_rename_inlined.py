"""A model that ONNX Runtime saved, with our bodies inlined, is fused again and loads without our library."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.passes.rename_inlined import rename_inlined
from rms_deploy.ops.functions import attach_functions

TEXT = """<ir_version: 10, opset_import: ["": 20, "rms_deploy": 1]>
g (float[b,8] x, float[b,8] r, float[8] w) => (float[b,8] y, float[b,1] k) <int64[1] last = {-1}> {
    n, s = rms_deploy.AddRMSNorm (x, r, w)
    m, t = rms_deploy.AddRMSNorm (s, n, w)
    y = rms_deploy.RMSNorm (m, w)
    k = ReduceSum (t, last)
}"""


def load(model, **settings):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    for name, value in settings.items():
        setattr(options, name, value)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@pytest.fixture
def saved(tmp_path):
    model = ir.from_onnx_text(TEXT)
    attach_functions(model)
    path = tmp_path / "saved.onnx"
    level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    load(ir.to_proto(model).SerializeToString(), optimized_model_filepath=str(path), graph_optimization_level=level)
    return path


def test_it_is_fused_again_and_loads(saved, tmp_path):
    result = fuse(saved, tmp_path / "again.onnx")
    assert [norm.kind for norm in result.norms] == ["AddRMSNorm", "AddRMSNorm", "RMSNorm"]
    generator = np.random.default_rng(0)
    feeds = {name: generator.standard_normal((3, 8), np.float32) for name in "xr"} | {"w": np.ones(8, np.float32)}
    for actual, expected in zip(
        load(tmp_path / "again.onnx").run(None, feeds), load(saved).run(None, feeds), strict=True
    ):
        np.testing.assert_allclose(actual, expected, rtol=4e-6)  # two kernels sum 8 squares in another order


def test_inputs_and_outputs_keep_their_names():
    text = """<ir_version: 10, opset_import: ["": 20]>
    g (float[b] _inlfunc_RMSNorm_x) => (float[b] _inlfunc_RMSNorm_y) {
        [_inlfunc_RMSNorm_n] _inlfunc_RMSNorm_a = Neg (_inlfunc_RMSNorm_x)
        inlfunc_RMSNorm_a = Exp (_inlfunc_RMSNorm_a)
        _inlfunc_RMSNorm_y = Neg (inlfunc_RMSNorm_a)
    }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    assert rename_inlined(model)
    assert [value.name for value in (*model.graph.inputs, *model.graph.outputs)] == [
        "_inlfunc_RMSNorm_x",
        "_inlfunc_RMSNorm_y",
    ]
    assert [value.name for node in model.graph for value in node.outputs][:2] == [
        "inlfunc_RMSNorm_a_2",
        "inlfunc_RMSNorm_a",
    ]
    assert model.graph[0].name == "inlfunc_RMSNorm_n"
    assert not rename_inlined(ir.from_proto(onnx.parser.parse_model(text.replace("_inlfunc", "_own"))))
