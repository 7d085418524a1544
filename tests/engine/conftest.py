"""TensorRT-RTX, which builds without a GPU, and a small model to build engines from."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import rms_deploy
from rms_deploy.errors import InstallationError
from rms_deploy.runtime.tensorrt_api import tensorrt

SMALL = """<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]>
small ({T}[b, 64] X, {T}[b, 64] R) => ({T}[b, 64] P)
{{
    Y, Sum = rms_deploy.AddRMSNorm (X, R, scale)
    M = MatMul (Y, W)
    N = rms_deploy.RMSNorm <scale_type = {N}> (M, scale)
    P = rms_deploy.PartialRMSNorm <partial_size = 8> (N, scale)
}}"""


@pytest.fixture
def rtx():
    """TensorRT-RTX as our API."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
    return tensorrt("tensorrt-rtx")


@pytest.fixture
def sm120(rtx):
    """Options of `build`: for a GPU that need not be here."""
    return {"runtime": rtx.name, "devices": ["sm120"]}


@pytest.fixture
def library():
    """The plugin library."""
    try:
        return rms_deploy.tensorrt_library()
    except InstallationError:
        pytest.skip("the plugin library is not built")


@pytest.fixture
def small(tmp_path):
    """A file with one norm of each kind, in float32 or another type; the names of its nodes are left out."""

    def write(dtype="float"):
        number = {"float": 1, "float16": 10, "bfloat16": 16}[dtype]
        model = onnx.parser.parse_model(SMALL.format(T=dtype, N=number))
        numbers = ir.DataType(number).numpy()
        for name, shape in (("scale", 64), ("W", (64, 64))):
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.full(shape, 0.5, numbers), name))
        onnx.save(model, tmp_path / f"{dtype}.onnx")
        return tmp_path / f"{dtype}.onnx"

    return write
