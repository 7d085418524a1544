"""The child's protocol, spoken to it as the benchmark does."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

from rms_deploy.benchmark.worker import inputs as benchmark_inputs
from rms_deploy.benchmark.worker import main as worker

TEXT = '<ir_version: 8, opset_import: ["" : 18]> g (float[n,8] x) => (float[n,8] y) { y = Exp(x) }'


def talk(*requests: dict) -> tuple[list[dict], int]:
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    command = [sys.executable, "-c", "from rms_deploy.benchmark.worker.main import main; main()"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def load(path, **changes) -> dict:
    inputs = benchmark_inputs.write({"x": np.ones((4, 8), np.float32)}, path.with_suffix(".npz"))
    options = {
        "do": "load",
        "runtime": "onnxruntime",
        "model": str(path),
        "threads": 1,
        "library": False,
        "timeout": 60,
        "generate": None,
        "cuda_graph": True,
    }
    return {**options, "inputs": inputs, **changes}


def test_loads_runs_and_ends_with_its_input(tmp_path):
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "a.onnx")
    answers, code = talk(
        {"do": "start"},
        load(tmp_path / "a.onnx"),
        {"do": "warm_up", "seconds": 0, "clients": 1},
        {"do": "run", "seconds": 0.01, "runs": 1, "clients": 1},
        {"do": "run", "seconds": 0, "runs": 6, "clients": 3},
        {"do": "memory"},
    )
    assert code == 0
    assert answers[0] == {}
    assert answers[1].keys() == {"load_seconds", "first_run_seconds", "memory_before"}
    assert answers[2] == {"settled": False, "run_seconds": None}
    assert all(latency > 0 for latency in answers[3]["microseconds"])
    assert len(answers[4]["microseconds"]) == 6
    assert answers[5]["peak_memory"] >= answers[1]["memory_before"] > 2**20


def test_times_of_a_generation_are_per_token(monkeypatch):
    monkeypatch.setattr(worker, "measure_clients", lambda *_: ([40.0, 60.0], 1.0))
    request = {"do": "run", "seconds": 0, "runs": 1, "clients": 1}
    assert worker._answer(request, list, 4) == {"microseconds": [10.0, 15.0], "seconds": 0.25}


def test_a_refusal_is_answered_and_ends_the_process(tmp_path):
    onnx.save(onnx.parser.parse_model(TEXT.replace("Exp", "Nonsense")), tmp_path / "a.onnx")
    answers, code = talk(load(tmp_path / "a.onnx"), {"do": "run", "seconds": 0, "runs": 1, "clients": 1})
    assert code == 0
    assert len(answers) == 1
    assert "Nonsense" in answers[0]["error"]


def test_inputs_that_do_not_fit_are_a_refusal(tmp_path):
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "a.onnx")
    wrong = benchmark_inputs.write({"x": np.ones((4, 7), np.float32)}, tmp_path / "wrong.npz")
    answers, code = talk(load(tmp_path / "a.onnx", inputs=wrong))
    assert code == 0
    assert answers[0]["error"].startswith("it does not run: ")
    assert "\n" not in answers[0]["error"]


def test_a_provider_that_is_not_there_is_one_line(tmp_path):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has a CUDA provider")
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "a.onnx")
    answers, _ = talk(load(tmp_path / "a.onnx", runtime="onnxruntime-cuda"))
    assert " has no CUDAExecutionProvider, only " in answers[0]["error"]
