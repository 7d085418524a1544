"""FoldConstants: what a model computes from constants, rounded as the model rounds it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.fold_constants import FoldConstants
from rms_deploy.onnx_model.upcast import Upcast
from rms_deploy.runtime import onnxruntime_session as runtime


def parse(body: str, constants: str) -> ir.Model:
    text = f'<ir_version: 8, opset_import: ["" : 18]> g (float[2] x) => (float[2] y) <{constants}> {{ {body} }}'
    return ir.from_proto(onnx.parser.parse_model(text))


@pytest.mark.parametrize(("code", "dtype"), [(10, np.float16), (16, ml_dtypes.bfloat16)])
def test_a_scale_is_rounded_before_the_type_is_widened(code, dtype):
    body = f"n = Cast<to={code}>(w) t = Cast<to={code}>(one) s = Add(n, t) f = Cast<to=1>(s) y = Mul(x, f)"
    model = parse(body, "float[2] w = {0.3, 0.7}, float one = {1}")
    assert FoldConstants()(model).modified
    assert [node.op_type for node in model.graph if node.op_type != "Constant"] == ["Mul"]
    assert not FoldConstants()(model).modified
    Upcast(ir.DataType.DOUBLE)(model)
    session = runtime.session(ir.to_proto(model), library=False)
    expected = np.array([0.3, 0.7], np.float32).astype(dtype) + dtype(1)
    np.testing.assert_array_equal(runtime.run(session, {"x": np.ones(2)})["y"], expected.astype(np.float64))


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("y = Add(x, w)", "float[2] w = {1, 2}"),
        ("y = Add(w, w)", "float[2] w = {1, 2}"),  # an output: its name must stay
    ],
)
def test_what_is_no_constant_or_no_float_stays(body, constants):
    model = parse(body, constants)
    assert not FoldConstants()(model).modified
