"""Which runtimes and libraries are here, and which norms of a model become plugins."""

from __future__ import annotations

import json
import sys

import onnx
import onnx.parser
import pytest

import rms_deploy
from rms_deploy.errors import ModelFileError
from rms_deploy.onnx_model.file import load_model


def model(node, x="float", scale="float"):
    text = f"""<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1, "own" : 1, "trt.plugins" : 1]>
    g ({x}[b, 64] X, {scale}[64] scale) => ({x}[b, 64] Y) {{ Y = {node} (X, scale) }}"""
    return onnx.parser.parse_model(text)


NORM = "rms_deploy.RMSNorm"


@pytest.fixture
def hidden(monkeypatch):
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("hidden")
def test_without_tensorrt():
    diagnosis = rms_deploy.doctor()
    by_name = {runtime.name: runtime for runtime in diagnosis.runtimes}
    assert by_name["onnxruntime"].registered
    assert by_name["tensorrt"].version is None
    assert by_name["tensorrt-rtx"].problem == "tensorrt-rtx is not installed; run: pip install tensorrt-rtx-cu13"
    assert diagnosis.healthy, "a runtime that nobody installed is no fault"


@pytest.fixture
def path(tmp_path):
    onnx.save(model(NORM), tmp_path / "norm.onnx")
    return tmp_path / "norm.onnx"


@pytest.mark.usefixtures("rtx")
def test_a_norm_that_becomes_a_plugin(path, library):
    diagnosis = rms_deploy.doctor(path)
    rtx = next(runtime for runtime in diagnosis.runtimes if runtime.name == "tensorrt-rtx")
    assert (rtx.registered, rtx.library, rtx.problem) == (True, str(library), "")
    assert (diagnosis.model.norm_count, diagnosis.model.unfused_count) == (1, 0)
    assert diagnosis.model.broken == ("runs only with the library (1 norm): no body",)
    assert diagnosis.model.plugins["tensorrt-rtx"] == "1 of 1 fused norms become plugin layers"
    assert diagnosis.healthy
    assert json.loads(json.dumps(diagnosis.to_dict()))["healthy"] is True


@pytest.mark.usefixtures("rtx", "library")
@pytest.mark.parametrize("kind", [onnx.load, load_model])
def test_a_model_in_memory(kind, path):
    found = rms_deploy.doctor(kind(path)).model
    assert (found.model, found.norm_count, found.faults) == ("g", 1, ())
    assert found.plugins["tensorrt-rtx"] == "1 of 1 fused norms become plugin layers"


@pytest.mark.usefixtures("rtx")
def test_a_library_that_is_not_there(path, monkeypatch, tmp_path):
    monkeypatch.setattr(rms_deploy, "__path__", [str(tmp_path)])
    diagnosis = rms_deploy.doctor(path)
    assert not diagnosis.healthy
    assert diagnosis.model.faults[0].startswith(
        "library: not loaded into tensorrt-rtx: librms_deploy_tensorrt.so is not"
    )


@pytest.mark.usefixtures("hidden")
def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        rms_deploy.doctor(tmp_path / "no.onnx")
