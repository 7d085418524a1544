"""Small models in files, which tests of several folders share."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir

from rms_deploy.onnx_model.file import save_model
from rms_deploy.ops.functions import attach_functions

NORM = """<ir_version: 8, opset_import: ["" : 18]> g (float[batch,8] x) => (float[batch,8] y)
<float two = {2}, int64[1] last = {-1}, float eps = {1e-5}>
{ q = Pow(x, two) m = ReduceMean(q, last) a = Add(m, eps) r = Sqrt(a) y = Div(x, r) }"""


def write(path, op="Exp", inputs="float[batch,8] x"):
    text = f'<ir_version: 8, opset_import: ["" : 18]> g ({inputs}) => (float[batch,8] y) {{ y = {op}(x) }}'
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def fused_norm(path):
    """One of our ops, with its function body."""
    text = (
        '<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]> g (float[batch,8] x) => (float[batch,8] y) '
        "<float[8] w = {1, 2, 3, 4, 5, 6, 7, 8}> { y = rms_deploy.RMSNorm(x, w) }"
    )
    model = ir.from_proto(onnx.parser.parse_model(text))
    attach_functions(model)
    save_model(model, path)
    return path


def decomposed_norm(path):
    """A norm of primitives."""
    onnx.save(onnx.parser.parse_model(NORM), path)
    return path


def with_data(path):
    """A model whose weights lie in `w.bin` beside it."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[batch,8] x) => (float[batch,64] y) { y = MatMul(x, w) }'
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((8, 64), np.float32), "w"))
    onnx.save(model, path, save_as_external_data=True, location="w.bin")
    return path
