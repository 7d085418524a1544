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

from rms_deploy.benchmark import bench as benchmark
from rms_deploy.benchmark.candidates import CANDIDATE_RUNTIMES
from rms_deploy.benchmark.variants import VARIANTS
from rms_deploy.benchmark.worker.process import BenchmarkProcess
from rms_deploy.cli import bench
from rms_deploy.cli.main import rms_deploy
from rms_deploy.deployment import sweep
from rms_deploy.errors import InputError

from ..benchmark.made_decoder import decoder

QUICK = ("--launches", "1", "--rounds", "2", "--duration", "0.02", "--warmup", "0", "--no-library")


def write(path, op="Exp"):
    text = f'<ir_version: 8, opset_import: ["" : 18]> g (float[batch,8] x) => (float[batch,8] y) {{ y = {op}(x) }}'
    onnx.save(onnx.parser.parse_model(text), path)
    return str(path)


def invoke(*arguments):
    return CliRunner().invoke(rms_deploy, ["bench", *arguments], catch_exceptions=False)


def test_a_row_for_each_model_and_how_it_was_measured(tmp_path):
    paths = write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx", "Log")
    result = invoke(*paths, *QUICK, "--shape", "x=3x8", "--threads", "2")
    assert result.exit_code == 3, "one launch tells no winner"
    lines = [line for line in result.stdout.splitlines() if "busy" not in line]
    assert lines[0].split()[:5] == ["candidate", "median", "p90", "p99", "runs/s"]
    assert [line.split()[0] for line in lines[1:3]] == list(paths)
    assert "too few launches" in lines[2]
    assert "95 % interval" not in lines[0]
    assert lines[-3].endswith(f"times as fast as {paths[0]}, in too few launches to tell that from noise.")
    assert lines[-2].startswith("inputs x=3x8; each candidate in a process of its own, 2 threads; ")
    assert "2 rounds in turns in each launch, another first in each; 0.02 s each in all" in lines[-2]


def test_verify_keeps_the_verdict_with_the_figures(tmp_path):
    same, other = write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx", "Log")
    equal = invoke(same, same, *QUICK, "--verify", "--json")
    assert equal.exit_code == 3, "one launch tells no winner"
    (found,) = json.loads(equal.stdout)["verifications"]
    assert (found["passed"], found["candidate"]["model"]) == (True, same)
    differs = invoke(same, other, *QUICK, "--verify")
    assert differs.exit_code == 1
    assert f"{other} was verified against {same}: NOT equal within" in differs.stdout


def test_a_verification_that_fails_loses_no_figures(tmp_path):
    path, other = write(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    text = '<ir_version: 8, opset_import: ["" : 18]> g (float[batch,8] x) => (float[batch,8] z) { z = Exp(x) }'
    onnx.save(onnx.parser.parse_model(text), other)
    result = invoke(path, str(other), *QUICK, "--verify")
    assert result.exit_code == 1
    assert f"{other} was verified against {path}: not verified: " in result.stdout
    assert result.stdout.splitlines()[1].startswith(path)


def test_verify_takes_two_models(tmp_path):
    result = invoke(write(tmp_path / "a.onnx"), *QUICK, "--verify")
    assert result.exit_code == 2
    assert "--verify takes two models or more" in " ".join(result.stderr.split())


def test_enough_launches_tell_what_is_noise(tmp_path):
    path = write(tmp_path / "a.onnx")
    result = invoke(path, path, *QUICK, "--launches", "3", "--json")
    assert result.exit_code == 0
    (point,) = json.loads(result.stdout)["points"]
    assert point["again"]["speedup"]["low"] <= point["again"]["speedup"]["high"]
    assert point["candidates"][1]["speedup"]["noise"] >= 1


def test_a_pipe_gets_lines_on_stderr_and_quiet_none(tmp_path):
    path = write(tmp_path / "a.onnx")
    result = invoke(path, *QUICK)
    assert result.exit_code == 0, "nothing is compared"
    assert result.stderr.startswith(f"launch 1: loading {path} (0 %, ")
    assert "round" not in result.stdout.splitlines()[0]
    quiet = CliRunner().invoke(rms_deploy, ["-q", "bench", path, *QUICK], catch_exceptions=False)
    assert quiet.stderr == ""


def test_the_time_is_limited(tmp_path):
    """So short a time suffices for no second launch."""
    path = write(tmp_path / "a.onnx")
    result = invoke(path, path, *QUICK, "--launches", "3", "--max-time", "0.001", "--json")
    assert result.exit_code == 3
    data = json.loads(result.stdout)
    assert data["undecided"]
    assert [len(c["latency"]["round_medians"]) for c in data["points"][0]["candidates"]] == [1, 1]


def test_iterations_are_measured_however_long_they_take(tmp_path):
    result = invoke(write(tmp_path / "a.onnx"), *QUICK, "--duration", "0", "--iterations", "40", "--json")
    assert json.loads(result.stdout)["points"][0]["candidates"][0]["latency"]["runs"] == 40


def test_options_of_engines_reach_the_method(monkeypatch):
    asked = []

    def asked_for(*_, method, **__):
        asked.append(method)
        raise InputError("no")

    monkeypatch.setattr(benchmark, "bench", asked_for)
    invoke("a.onnx", "--no-cuda-graph")
    invoke("a.onnx")
    assert [method.cuda_graph for method in asked] == [False, True]


def test_tokens_of_a_decoder(tmp_path):
    onnx.save(decoder(), tmp_path / "a.onnx")
    result = invoke(str(tmp_path / "a.onnx"), *QUICK, "--generate", "2", "--dim", "s=3", "--dim", "t=3")
    assert result.exit_code == 0
    assert result.stdout.split()[:5] == ["candidate", "median", "p90", "p99", "tokens/s"]
    assert " per token." in result.stdout
    result = invoke(write(tmp_path / "b.onnx"), *QUICK, "--generate", "2")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: --generate feeds a key-value cache back, and the model has none")


def test_json_and_a_failure(tmp_path):
    paths = write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx", "Nonsense")
    result = invoke(*paths, *QUICK, "--json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert data["failed"]
    assert data["points"][0]["candidates"][0]["latency"]["median"] > 0
    assert "Nonsense" in data["points"][0]["candidates"][1]["failure"]
    assert {"provenance", "points", "method"} <= data.keys()


def test_a_crash_is_printed_and_ends_with_1(tmp_path, monkeypatch):
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(BenchmarkProcess, "command", staticmethod(lambda _: [sys.executable, "-S", "-c", code]))
    path = write(tmp_path / "a.onnx")
    result = invoke(path, *QUICK)
    assert result.exit_code == 1
    assert f"{path} FAILED: its process was killed by SIGSEGV" in result.stdout


def test_a_page_takes_no_place_of_a_model(tmp_path):
    path = write(tmp_path / "a.onnx")
    result = invoke(path, *QUICK, "--report", path)
    assert result.exit_code == 2
    assert "--report would take the place of a model; give another name" in result.stderr


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


def test_variants_and_a_sweep(tmp_path):
    path = write(tmp_path / "a.onnx")
    result = invoke(path, *QUICK, "--compare", "original,fused", "--sweep", "batch=1,2", "--percentile", "99.9")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].split()[:4] == ["candidate", "at", "median", "p99.9"]
    assert [line.split()[:3] for line in lines[1:3]] == [["original", "batch", "1"], ["original", "batch", "2"]]
    assert lines[3] == "fused at batch 1 FAILED: the model has no RMSNorm to fuse"


@pytest.mark.parametrize("sweep", ["batch", "batch=", "batch=1,x", "=1"])
def test_a_sweep_that_is_none_is_a_usage_error(sweep):
    result = CliRunner().invoke(rms_deploy, ["bench", "a.onnx", "--sweep", sweep])
    assert result.exit_code == 2
    assert "as in seq=1,16,128" in result.stderr


@pytest.mark.parametrize(("form", "start"), [("--markdown", "- "), ("--csv", "candidate,model,runtime,")])
def test_other_forms(tmp_path, form, start):
    result = invoke(write(tmp_path / "a.onnx"), *QUICK, form)
    assert result.exit_code == 0
    assert result.stdout.startswith(start)


def test_what_goes_with_ray_only():
    for option in (["--per-machine"], ["--resume", "points"]):
        result = invoke("a.onnx", *option)
        assert result.exit_code == 2
        assert "--per-machine and --resume go with --ray" in result.stderr


def test_without_ray_it_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = invoke(write(tmp_path / "a.onnx"), "--ray", "local")
    assert result.exit_code == 1
    assert result.stderr == "Error: ray is not installed; run: pip install ray\n"


def test_options_reach_the_sweep(monkeypatch):
    asked = {}

    def asked_for(models, **options):
        asked.update(models=models, **options)
        raise InputError("`ray` is 'there'")

    monkeypatch.setattr(sweep, "sweep", asked_for)
    there = ["--ray", "auto", "--per-machine", "--resume", "points"]
    result = invoke("a.onnx", "b.onnx", *there, "--compare", "fused", *QUICK)
    assert (result.exit_code, result.stderr) == (1, "Error: --ray is 'there'\n")
    assert [str(path) for path in asked["models"]] == ["a.onnx", "b.onnx"]
    assert (asked["ray"], asked["per_machine"], str(asked["resume"])) == ("auto", True, "points")
    assert (asked["compare"], asked["library"], asked["method"].rounds) == (("fused",), False, 2)


def test_the_options_name_what_there_is():
    assert set(bench._RUNTIMES) == set(CANDIDATE_RUNTIMES)
    (compare,) = [option for option in bench.command.params if option.name == "compare"]
    assert all(name in compare.help for name in VARIANTS)


def test_an_endpoint_beside_the_file_for_several_numbers_of_clients(tmp_path):
    import numpy as np

    from ..made_server import Model, serving

    path = write(tmp_path / "a.onnx")
    with serving(Model(lambda feeds: {"y": np.exp(feeds["x"])}, {"x": "FP32"}, {"y": "FP32"}), "grpc") as url:
        result = invoke(path, "--endpoint", url, *QUICK, "--concurrency", "1,2")
    assert result.exit_code == 3, result.output
    header, *rows = (line.split() for line in result.stdout.splitlines()[:5])
    assert header[:9] == ["candidate", "at", "median", "p90", "p99", "runs/s", "queue", "compute", "batched"]
    assert [row[:3] for row in rows] == [[name, "concurrency", n] for n in "12" for name in (path, url)]
    assert f"{url}: the server decides how many threads and instances it has" in result.stdout


@pytest.mark.parametrize("counts", ["", "0", "1,x", "2,2", "1,-1"])
def test_numbers_of_clients_that_are_none(counts):
    result = CliRunner().invoke(rms_deploy, ["bench", "a.onnx", "--concurrency", counts])
    assert result.exit_code == 2
    assert "as in 1,2,4" in result.stderr


def test_what_is_no_endpoint_is_one_line(tmp_path):
    result = invoke(write(tmp_path / "a.onnx"), "--endpoint", "localhost:8001")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "is no endpoint; write it as grpc://host:port/model" in result.stderr
