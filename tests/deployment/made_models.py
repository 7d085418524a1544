"""Small models, which the tests of this folder share."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser

NORM = """<ir_version: 8, opset_import: ["" : 18]> g (float[batch,8] x) => (float[batch,8] y)
<float two = {2}, int64[1] last = {-1}, float eps = {1e-5}>
{ q = Pow(x, two) m = ReduceMean(q, last) a = Add(m, eps) r = Sqrt(a) y = Div(x, r) }"""


def write(path, op="Exp"):
    text = f'<ir_version: 8, opset_import: ["" : 18]> g (float[batch,8] x) => (float[batch,8] y) {{ y = {op}(x) }}'
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def norm(path):
    """A decomposed norm."""
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
