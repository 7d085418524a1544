"""Domains are imported by the model and by each function, never by a body."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir

from rms_deploy.fusion.passes.import_domains import import_domains

TEXT = """
    <ir_version: 8, opset_import: ["" : 18, "local" : 1]>
    g (float[8] x, bool c) => (float[8] y) <float[8] w = {1,2,3,4,5,6,7,8}> {
        a = local.F (x, w)
        y = If (c) <then_branch = t () => (float[8] ty) { ty = rms_deploy.RMSNorm (a, w) },
                    else_branch = e () => (float[8] ey) { ey = trt.plugins.RMSNorm (a, w) }>
    }
    <domain: "local", opset_import: ["" : 18]> F (a, b) => (o) { o, m, i, s = com.microsoft.SkipSimplifiedLayerNormalization (a, a, b) }
    <domain: "local", opset_import: ["" : 18]> G (a) => (o) { o = Neg (a) }
"""  # noqa: E501 - a graph a line


def test_where_the_nodes_are():
    model = ir.from_proto(onnx.parser.parse_model(TEXT))
    import_domains(model)
    assert model.opset_imports == {"": 18, "local": 1, "rms_deploy": 1, "trt.plugins": 1}
    f, g = model.functions.values()
    assert f.opset_imports == {"": 18, "com.microsoft": 1}
    assert g.opset_imports == {"": 18}


def test_an_import_keeps_its_version():
    model = ir.from_proto(onnx.parser.parse_model(TEXT))
    model.opset_imports["trt.plugins"] = 2
    import_domains(model)
    assert model.opset_imports["trt.plugins"] == 2
