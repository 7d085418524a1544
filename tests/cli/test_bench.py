"""`rms-deploy bench`: the table, the failures, the exit code."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys

import onnx
import onnx.parser
import pytest
from click.testing import CliRunner

from rms_deploy.benchmark_process import BenchmarkProcess
from rms_deploy.benchmark_result import BenchmarkResult, Candidate, Latency, Speedup
from rms_deploy.cli.bench import print_benchmark
from rms_deploy.cli.main import rms_deploy
from rms_deploy.machine import Machine

QUICK = ("--rounds", "2", "--seconds", "0.02", "--warmup", "0", "--no-library")


def write(path, op="Exp"):
    text = f'<ir_version: 8, opset_import: ["" : 18]> g (float[batch,8] x) => (float[batch,8] y) {{ y = {op}(x) }}'
    onnx.save(onnx.parser.parse_model(text), path)
    return str(path)


def invoke(*arguments):
    return CliRunner().invoke(rms_deploy, ["bench", *arguments], catch_exceptions=False)


def test_a_row_for_each_model_and_how_it_was_measured(tmp_path):
    paths = write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx", "Log")
    result = invoke(*paths, *QUICK, "--shape", "x=3x8", "--threads", "2")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split()[:5] == ["model", "median", "p10", "p90", "p99"]
    assert [line.split()[0] for line in lines[1:3]] == list(paths)
    assert lines[2].endswith("too few rounds")
    assert "95 % interval" not in lines[0]
    assert "2 threads, x=3x8; 2 rounds in turns, 0.02 s each" in lines[3]
    assert result.stderr == "", "no bar where stderr is no terminal"


def test_json_and_a_failure(tmp_path):
    paths = write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx", "Nonsense")
    result = invoke(*paths, *QUICK, "--json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert data["failed"]
    assert data["candidates"][0]["latency"]["median"] > 0
    assert "Nonsense" in data["candidates"][1]["failure"]
    assert {"machine", "versions", "date", "command", "shapes", "threads"} <= data.keys()


def test_a_crash_is_printed_and_ends_with_1(tmp_path, monkeypatch):
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(BenchmarkProcess, "command", staticmethod(lambda: [sys.executable, "-S", "-c", code]))
    path = write(tmp_path / "a.onnx")
    result = invoke(path, *QUICK)
    assert result.exit_code == 1
    assert f"{path} FAILED: its process was killed by SIGSEGV" in result.stdout


def test_a_missing_file_is_one_line(tmp_path):
    result = invoke(write(tmp_path / "a.onnx"), str(tmp_path / "missing.onnx"), *QUICK)
    assert result.exit_code == 1
    assert result.stderr == f"Error: {tmp_path / 'missing.onnx'}: no such file\n"
    assert invoke().exit_code == 2


def test_a_bar_is_drawn_on_a_terminal(tmp_path):
    path = write(tmp_path / "a.onnx")
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "rms_deploy", "bench", path, *QUICK]
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=end, env=environment) as process:
        os.close(end)
        drawn = b""
        with contextlib.suppress(OSError):  # Linux says EIO when the other end is closed
            while part := os.read(terminal, 4096):
                drawn += part
        output, _ = process.communicate()
    os.close(terminal)
    assert process.returncode == 0
    assert b"round 2 of 2" in drawn
    assert b"round" not in output.splitlines()[0]


@pytest.mark.parametrize(
    ("microseconds", "text"), [(1.25, "1.2 us"), (999.9, "999.9 us"), (1500, "1.50 ms"), (2.5e6, "2.50 s")]
)
def test_latencies_have_a_unit_that_can_be_read(microseconds, text, capsys):
    latency = Latency.of([[microseconds]])
    candidates = (
        Candidate("a", latency=latency),
        Candidate("b", False, latency=latency, speedup=Speedup(1.0, 0.9, 1.1)),
    )
    result = BenchmarkResult(
        candidates, {"x": (1,)}, 1, 1, 1.0, 0.0, 0, True, Machine("cpu", 1, 1, "", 0.0), {}, "", "rms-deploy bench"
    )
    print_benchmark(result, quiet=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].count(text) == 4
    assert lines[2].startswith("b without our library  ")
    assert lines[2].endswith("1.00x  0.90 ... 1.10  within noise")
