"""The build on a node, for its own GPU or for the type that it announces."""

from __future__ import annotations

import pytest

from rms_deploy.deployment import node_build
from rms_deploy.deployment.files import read_file
from rms_deploy.deployment.node_build import build_on_node
from rms_deploy.errors import InputError
from rms_deploy.runtime.gpus import Gpu

from ..made_models import decomposed_norm

OPTIONS = {"runtime": "tensorrt-rtx", "norm": "decomposed", "optimization_profiles": [{"x": ((1, 8),) * 3}]}


@pytest.fixture
def files(tmp_path):
    return {"a.onnx": read_file(decomposed_norm(tmp_path / "a.onnx"))}


@pytest.fixture(autouse=True)
def _rtx():
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")


def test_without_a_gpu_it_builds_for_the_type(files, monkeypatch):
    monkeypatch.setattr(node_build, "gpus", tuple)
    built = build_on_node(files, model="a.onnx", gpu_type="L4", options=OPTIONS)
    assert built["device"] == "sm89"
    assert built["record"]["devices"] == ["sm89"]
    assert built["record"]["bytes"] == built["engine"].nbytes > 0


def test_the_gpu_that_is_here_counts(files, monkeypatch):
    monkeypatch.setattr(node_build, "gpus", lambda: (Gpu("NVIDIA GeForce RTX 5090", "sm120", 32000, "999"),))
    built = build_on_node(files, model="a.onnx", gpu_type="GeForce", options=OPTIONS)
    assert (built["device"], built["record"]["devices"]) == ("sm120", ["sm120"])


def test_an_unknown_type(files, monkeypatch):
    monkeypatch.setattr(node_build, "gpus", tuple)
    with pytest.raises(InputError, match="GPU type X99"):
        build_on_node(files, model="a.onnx", gpu_type="X99", options=OPTIONS)
