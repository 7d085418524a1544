"""A runtime that takes no local functions: OpenVINO refuses the fused form, and takes all that need none."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.unfuse import unfuse
from rms_deploy.ops.forms import NormForm

from .decoder import NORMS, decoder

pytestmark = [pytest.mark.pipeline, pytest.mark.network, pytest.mark.slow]

FORMS = [NormForm.STANDARD, NormForm.DECOMPOSED, NormForm.ONNXRUNTIME]


@pytest.fixture(scope="module")
def folder(tools, tmp_path_factory):
    folder = tmp_path_factory.mktemp("openvino")
    onnx.save(decoder(), folder / "original.onnx")
    for form in (NormForm.FUSED, *FORMS):
        fuse(folder / "original.onnx", folder / f"{form}.onnx", target=form)
    unfuse(folder / "fused.onnx", folder / "unfused.onnx")
    script = Path(__file__).with_name("run_openvino.py")
    done = subprocess.run(
        [tools, script, folder, *folder.glob("*.onnx")], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def found(folder, name):
    return json.loads((folder / "openvino.json").read_text())[name]


def test_it_refuses_the_fused_form(folder):
    assert "RMSNorm" in found(folder, "fused")["error"]


@pytest.mark.parametrize("name", [*FORMS, "unfused"], ids=str)
def test_each_norm_becomes_one_kernel_of_its_own(folder, name):
    session = ort.InferenceSession(folder / "original.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"input_ids": np.arange(24).reshape(2, 12) * 5 % 64})
    model = found(folder, name)
    assert model["RMS kernels"] == NORMS
    distance = np.linalg.norm(np.asarray(model["logits"]) - expected) / np.linalg.norm(expected)
    assert distance < 1e-6  # three float32 norms and the products behind them
