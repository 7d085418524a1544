"""What is broken is said of each norm, and counted."""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.fusion.norm import NOTE
from rms_deploy.fusion.norm_faults import note_faults
from rms_deploy.fusion.passes.restore_ops import restore_ops
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.functions import attach_functions

TEXT = """<ir_version: 9, opset_import: ["": 20, "rms_deploy": 1]>
g (float[b,8] x, float[8] w) => (float[b,8] y) {
    n, s = rms_deploy.AddRMSNorm (x, x, w)
    m = rms_deploy.RMSNorm (n, w)
    y = rms_deploy.RMSNorm (m, w)
}"""


def test_each_norm_and_the_count():
    model = ir.from_onnx_text(TEXT)
    attach_functions(model)
    del model.functions["rms_deploy", "RMSNorm", ""]
    model.graph[0].resize_outputs(1)
    found = note_faults(model, Facts(model), restore_ops(model))
    assert found == (
        "runs only with the library (2 norms): no body",
        "the library does not take it (1 norm): without its Sum",
    )
    assert [node.meta[NOTE] for node in model.graph] == [
        "the library does not take it: without its Sum; fuse the model again",
        *2 * ["runs only with the library: no body; fuse the model again"],
    ]


def test_a_whole_model_has_none():
    model = ir.from_onnx_text(TEXT)
    attach_functions(model)
    assert note_faults(model, Facts(model), {}) == ()
    assert all(NOTE not in node.meta for node in model.graph)
