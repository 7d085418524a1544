"""The child's protocol, spoken to it as the benchmark does."""

from __future__ import annotations

import json
import subprocess
import sys

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest

from rms_deploy.benchmark_child import _prepared, measure
from rms_deploy.runtime import onnxruntime as runtime

TEXT = '<ir_version: 8, opset_import: ["" : 18]> g (float[n,8] x) => (float[n,8] y) { y = Exp(x) }'


def talk(*requests: dict) -> tuple[list[dict], int]:
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    command = [sys.executable, "-c", "from rms_deploy.benchmark_child import main; main()"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def load(path, **changes) -> dict:
    options = {"do": "load", "model": str(path), "threads": 1, "library": False, "shapes": {"x": [4, 8]}, "seed": 0}
    return {**options, **changes}


def test_loads_runs_and_ends_with_its_input(tmp_path):
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "a.onnx")
    answers, code = talk(load(tmp_path / "a.onnx"), {"do": "run", "seconds": 0.01}, {"do": "run", "seconds": 0})
    assert code == 0
    assert answers[0].keys() == {"load_seconds", "first_run_seconds"}
    assert all(latency > 0 for latency in answers[1]["microseconds"])
    assert len(answers[2]["microseconds"]) == 1


def test_a_refusal_is_answered_and_ends_the_process(tmp_path):
    onnx.save(onnx.parser.parse_model(TEXT.replace("Exp", "Nonsense")), tmp_path / "a.onnx")
    answers, code = talk(load(tmp_path / "a.onnx"), {"do": "run", "seconds": 0})
    assert code == 0
    assert len(answers) == 1
    assert "Nonsense" in answers[0]["error"]


def test_each_run_is_counted_but_the_first():
    calls = []
    latencies = measure(lambda: calls.append(None), seconds=0.001)
    assert len(calls) == len(latencies) + 1
    assert len(measure(lambda: None, seconds=0)) == 1


@pytest.mark.parametrize(("name", "dtype"), [("float", np.float32), ("bfloat16", ml_dtypes.bfloat16)])
def test_what_is_timed_is_the_session_alone(monkeypatch, name, dtype):
    text = TEXT.replace("float[", f"{name}[").replace("Exp", "Identity")
    session = runtime.session(onnx.parser.parse_model(text), library=False)
    run = _prepared(session, {"x": np.ones((4, 8), dtype)})
    monkeypatch.setattr(runtime, "run", lambda *_: pytest.fail("prepares the names and inputs again"))
    run()
    run()
    assert getattr(run, "func", None) == (session.run if name == "float" else None)
