"""One model, fused in a process of its own: what is said of it."""

from __future__ import annotations

import sys

import onnx

from rms_deploy.benchmark.worker.process import BenchmarkProcess
from rms_deploy.deployment.fuse_one import ModelFusion, fuse_one
from rms_deploy.fusion.near_miss import NearMiss

from ..made_models import decomposed_norm


def test_it_counts(tmp_path):
    fusion = fuse_one("a", decomposed_norm(tmp_path / "a.onnx"), tmp_path / "out.onnx", {})
    assert (fusion.model, fusion.norm_count, fusion.fused_count, fusion.written) == ("a", 1, 1, True)
    assert fusion.seconds > 0
    assert [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node] == ["RMSNorm"]


def test_a_refused_model_is_a_failure(tmp_path):
    fusion = fuse_one("a", tmp_path / "none.onnx", tmp_path / "out.onnx", {})
    assert fusion.why == f"FAILED: {tmp_path / 'none.onnx'}: no such file"


def test_a_process_that_is_killed_is_a_failure(tmp_path, monkeypatch):
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.setattr(BenchmarkProcess, "command", staticmethod(lambda _: [sys.executable, "-S", "-c", code]))
    fusion = fuse_one("a", decomposed_norm(tmp_path / "a.onnx"), tmp_path / "out.onnx", {})
    assert (fusion.failure, fusion.written) == ("its process was killed by SIGKILL", False)


def test_equal_reasons_are_counted():
    misses = [NearMiss(node, "epsilon", reason, "") for node, reason in (("a", "one"), ("b", "two"), ("c", "two"))]
    fusion = ModelFusion("a", 1.0, fused_count=2, fused_before_count=3, near_misses=tuple(misses))
    assert fusion.why == "2 x two; one"
    assert fusion.norm_count == 8
