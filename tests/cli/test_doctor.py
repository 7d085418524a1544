from __future__ import annotations

import json

import onnx
import onnx.parser
import pytest
from click.testing import CliRunner

import rms_deploy as package
from rms_deploy.cli.main import rms_deploy
from rms_deploy.engine.doctor import Diagnosis, ModelDiagnosis, RuntimeDiagnosis
from rms_deploy.runtime.gpus import Gpu


def invoke(*arguments):
    return CliRunner().invoke(rms_deploy, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def found(monkeypatch):
    """What `rms_deploy.doctor` finds."""

    def find(*, faults=(), problem="", gpus=(), gpu_problem="", broken=()):
        runtimes = (
            RuntimeDiagnosis("onnxruntime", "1.30", "/lib/a.so", registered=True, problem=""),
            RuntimeDiagnosis("tensorrt", None, None, registered=False, problem="not installed"),
            RuntimeDiagnosis("tensorrt-rtx", "1.7", "/lib/b.so", registered=not problem, problem=problem),
        )
        plugins = {"tensorrt-rtx": "3 of 3 fused norms become plugin layers"}
        model = ModelDiagnosis("m.onnx", 3, 2, faults, plugins, broken)
        diagnosis = Diagnosis("0.1", "3.11", "Linux", gpus, gpu_problem, runtimes, model)
        monkeypatch.setattr(package, "doctor", lambda _model: diagnosis, raising=False)

    return find


def test_all_is_well(found):
    found(gpus=(Gpu("RTX 5090", "sm120", 32607, "580.65"),))
    result = invoke("doctor", "m.onnx")
    assert result.exit_code == 0
    assert result.stdout == (
        "rms-deploy 0.1, Python 3.11, Linux\n"
        "GPU: RTX 5090, sm120, 32607 MiB, driver 580.65\n"
        "runtime       version   our library\n"
        "onnxruntime   1.30      registered\n"
        "tensorrt      not here  not built\n"
        "tensorrt-rtx  1.7       registered\n"
        "tensorrt: not installed\n"
        "m.onnx: 3 fused norms, 2 more that rms-deploy fuse takes\n"
        "tensorrt-rtx: 3 of 3 fused norms become plugin layers\n"
    )


def test_a_driver_that_is_too_old(found):
    """It lists the GPU all the same."""
    found(gpus=(Gpu("A100", "sm80", 40960, "470.57"),), gpu_problem="the NVIDIA driver is 470.57")
    lines = invoke("doctor", "m.onnx").stdout.splitlines()
    assert lines[1:3] == [
        "GPU: A100, sm80, 40960 MiB, driver 470.57",
        "no GPU can be used: the NVIDIA driver is 470.57",
    ]


def test_a_library_that_does_not_load(found):
    found(problem="it is truncated")
    result = invoke("doctor", "m.onnx")
    assert result.exit_code == 1
    assert "tensorrt-rtx  1.7       built\n" in result.stdout
    assert "tensorrt-rtx: it is truncated\n" in result.stdout


def test_a_fault_of_the_model(found):
    found(faults=("x: name: there is no such plugin",))
    result = invoke("doctor", "m.onnx")
    assert result.exit_code == 1
    assert result.stdout.endswith("fault: x: name: there is no such plugin\n")


def test_what_fuse_mends_is_no_fault(found):
    found(broken=("runs only with the library (3 norms): no body",))
    result = invoke("doctor", "m.onnx")
    assert result.exit_code == 0
    assert result.stdout.endswith("\nruns only with the library (3 norms): no body; rms-deploy fuse mends it\n")


def test_of_this_machine(tmp_path):
    opsets = '<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]>'
    text = f"{opsets} g (float[8] x) => (float[8] y) {{ y = rms_deploy.No (x) }}"
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    result = invoke("doctor", tmp_path / "m.onnx", "--json")
    assert result.exit_code == 1
    diagnosis = json.loads(result.stdout)
    assert diagnosis["runtimes"][0]["name"] == "onnxruntime"
    assert "name: there is no such plugin" in diagnosis["model"]["faults"][0]
