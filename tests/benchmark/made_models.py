"""Small models, which the tests of this folder share."""

from __future__ import annotations

import onnx
import onnx.parser
import onnx_ir as ir

from rms_deploy.onnx_model.file import save_model
from rms_deploy.ops.functions import attach_functions


def write(path, op="Exp", inputs="float[batch,8] x"):
    text = f'<ir_version: 8, opset_import: ["" : 18]> g ({inputs}) => (float[batch,8] y) {{ y = {op}(x) }}'
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def norm(path):
    """One of our ops, with its function body."""
    text = (
        '<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]> g (float[batch,8] x) => (float[batch,8] y) '
        "<float[8] w = {1, 2, 3, 4, 5, 6, 7, 8}> { y = rms_deploy.RMSNorm(x, w) }"
    )
    model = ir.from_proto(onnx.parser.parse_model(text))
    attach_functions(model)
    save_model(model, path)
    return path
