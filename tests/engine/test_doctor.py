"""What is here, and each reason why a norm finds no plugin."""

from __future__ import annotations

import json
import sys

import onnx
import onnx.parser
import onnx_ir as ir
import pytest

import rms_deploy
from rms_deploy.engine.plugin_faults import plugin_faults
from rms_deploy.errors import InstallationError, ModelFileError


def model(node, x="float", scale="float"):
    text = f"""<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1, "own" : 1, "trt.plugins" : 1]>
    g ({x}[b, 64] X, {scale}[64] scale) => ({x}[b, 64] Y) {{ Y = {node} (X, scale) }}"""
    return onnx.parser.parse_model(text)


NORM = "rms_deploy.RMSNorm"


@pytest.mark.parametrize(
    ("node", "types", "fault"),
    [
        ("rms_deploy.Norm", (), "name: there is no such plugin; the library has RMSNorm, PartialRMSNorm, AddRMSNorm"),
        (f'{NORM} <plugin_version = "2">', (), "version: plugin_version is '2'; the library has '1'"),
        (f'{NORM} <plugin_namespace = "mine">', (), "namespace: is 'mine'; the plugin's is 'rms_deploy'"),
        ("own.RMSNorm", (), "namespace: is 'own'; the plugin's is 'rms_deploy'"),
        ('trt.plugins.RMSNorm <plugin_namespace = "mine">', (), "namespace: is 'mine'"),
        (NORM, ("double", "double"), "type: X is double; the plugin takes float32, float16, bfloat16"),
        (NORM, ("float16", "bfloat16"), "scale is bfloat16 and X float16; the plugin takes float16 or float32 here"),
        (NORM, ("float", "float16"), "type: scale is float16 and X float32; the plugin takes float32 here"),
    ],
)  # fmt: skip
def test_each_fault_is_named(node, types, fault):
    (found, *_) = plugin_faults(ir.from_proto(model(node, *types)))
    assert fault in found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("node", "types"),
    [
        (NORM, ()),
        (NORM, ("float16", "float")),
        (f'{NORM} <plugin_version = "1", plugin_namespace = "rms_deploy">', ()),
        ('trt.plugins.RMSNorm <plugin_version = "1", plugin_namespace = "rms_deploy">', ()),
        ("own.Other", ()),
        ("Mul", ()),
    ],
)
def test_no_fault(node, types):
    assert not list(plugin_faults(ir.from_proto(model(node, *types))))


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
def rtx():
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")


@pytest.fixture
def path(tmp_path):
    onnx.save(model(NORM), tmp_path / "norm.onnx")
    return tmp_path / "norm.onnx"


@pytest.mark.usefixtures("rtx")
def test_a_norm_that_becomes_a_plugin(path):
    try:
        library = rms_deploy.tensorrt_library()
    except InstallationError:
        pytest.skip("the plugin library is not built")
    diagnosis = rms_deploy.doctor(path)
    rtx = next(runtime for runtime in diagnosis.runtimes if runtime.name == "tensorrt-rtx")
    assert (rtx.registered, rtx.library, rtx.problem) == (True, str(library), "")
    assert diagnosis.model.plugins["tensorrt-rtx"] == "1 of 1 fused norms become plugin layers"
    assert diagnosis.healthy
    assert json.loads(json.dumps(diagnosis.to_dict()))["healthy"] is True


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
