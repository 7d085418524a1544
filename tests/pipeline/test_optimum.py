"""optimum's ORTModelForCausalLM generates the same tokens from a fused file, its own or ours, with our library and
without.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from rms_deploy import onnxruntime_library
from rms_deploy.exporter.export import export
from rms_deploy.fusion.fuse import fuse

pytestmark = [pytest.mark.pipeline, pytest.mark.network, pytest.mark.slow]


def run(python, *arguments):
    command = [python, Path(__file__).with_name("run_optimum.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.filterwarnings("ignore")  # transformers' own
def test_equal_tokens(tools, tmp_path):
    original, fused, ours = (tmp_path / name for name in ("original", "fused", "ours"))
    run(tools, "export", original)
    shutil.copytree(original, fused)
    shutil.copytree(original, ours)
    assert export(original / "torch", ours / "model.onnx", with_past=True).count() == {"RMSNorm": 1, "AddRMSNorm": 4}
    norms = fuse(original / "model.onnx", fused / "model.onnx").norms
    assert [norm.kind for norm in norms] == ["RMSNorm", *4 * ["AddRMSNorm"]]
    expected = json.loads(run(tools, "generate", original, "").splitlines()[-1])
    assert len(set(expected[0])) > 4, "a model that repeats one token proves nothing"
    for library in ("", onnxruntime_library()):
        for folder in (fused, ours):
            assert json.loads(run(tools, "generate", folder, library).splitlines()[-1]) == expected
