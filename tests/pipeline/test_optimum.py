"""optimum's ORTModelForCausalLM generates the same tokens from a fused file, with our library and without."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from rms_deploy import onnxruntime_library
from rms_deploy.fusion.fuse import fuse

pytestmark = [pytest.mark.pipeline, pytest.mark.network, pytest.mark.slow]


def run(python, *arguments):
    command = [python, Path(__file__).with_name("run_optimum.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_equal_tokens(tools, tmp_path):
    original, fused = tmp_path / "original", tmp_path / "fused"
    run(tools, "export", original)
    shutil.copytree(original, fused)
    norms = fuse(original / "model.onnx", fused / "model.onnx").norms
    assert [norm.kind for norm in norms] == ["RMSNorm", *4 * ["AddRMSNorm"]]
    expected = json.loads(run(tools, "generate", original, "").splitlines()[-1])
    assert len(set(expected[0])) > 4, "a model that repeats one token proves nothing"
    for library in ("", onnxruntime_library()):
        assert json.loads(run(tools, "generate", fused, library).splitlines()[-1]) == expected
