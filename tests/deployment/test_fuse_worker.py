"""The process of one model: it answers in JSON, and a refused model is one line."""

from __future__ import annotations

from contextlib import closing

import onnx
import pytest

from rms_deploy.benchmark.worker.process import BenchmarkProcess
from rms_deploy.errors import RunError

NORM = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, scale)"


def test_answers(tmp_path, build):
    onnx.save(build(NORM), tmp_path / "in.onnx")
    with closing(BenchmarkProcess(module="rms_deploy.deployment.fuse_worker")) as process:
        request = {"model": str(tmp_path / "in.onnx"), "output": str(tmp_path / "out.onnx"), "options": {}}
        answer = process.ask("fuse", **request)
        assert (answer["norm_count"], answer["written"]) == (1, True)
        assert [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node] == ["RMSNorm"]
        with pytest.raises(RunError, match=r"none\.onnx: no such file"):
            process.ask("fuse", **{**request, "model": str(tmp_path / "none.onnx")})
        assert process.ask("fuse", **request)["norm_count"] == 1
