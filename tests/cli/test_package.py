"""`rms-deploy package`: what is printed, and one line for every mistake."""

from __future__ import annotations

import json

import onnx
import onnx.parser
import pytest
from click.testing import CliRunner

from rms_deploy.cli.main import rms_deploy


def invoke(*arguments):
    return CliRunner().invoke(rms_deploy, ["package", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def model(tmp_path):
    text = '<ir_version: 8, opset_import: ["" : 18]> g (float[b,8] x) => (float[b,8] y) { y = Exp(x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "exp.onnx")
    return tmp_path / "exp.onnx"


def test_the_files_and_the_server(tmp_path, model):
    result = invoke(model, "--for", "triton", "-o", tmp_path / "models", "--backend", "python", "--server-path", "/m")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"packaged exp, version 1, for the backend python, in {tmp_path / 'models'}:",
        *("  exp/config.pbtxt", "  exp/1/model.onnx", "  exp/1/model.py"),
        "serve it with: tritonserver --model-repository=/m",
    ]
    assert result.stderr == ""


def test_all_options_and_json(tmp_path, model):
    options = ("--name", "e", "--version", 4, "--max-batch-size", 8, "--max-queue-delay", 9, "--threads", 2, "--warmup")
    devices = ("--instances", "cpu=2", "--instances", "gpu:1=3", "--dim", "b=5")
    result = invoke(model, "-o", tmp_path / "models", *options, *devices, "--json")
    assert json.loads(result.stdout)["files"] == ["e/config.pbtxt", "e/4/model.onnx"]
    text = (tmp_path / "models" / "e" / "config.pbtxt").read_text()
    for part in ("max_batch_size: 8", "max_queue_delay_microseconds: 9", "count: 2", "gpus: [1]", "batch_size: 5"):
        assert part in text


def test_a_config_that_stays_is_said(tmp_path, model):
    invoke(model, "-o", tmp_path / "models")
    result = invoke(model, "-o", tmp_path / "models", "--version", 2, "--instances", "cpu=2")
    assert result.stderr == f"note: {tmp_path / 'models' / 'exp' / 'config.pbtxt'} was there and keeps its options\n"


def test_a_mistake_is_one_line_in_the_words_of_the_command_line(tmp_path, model):
    invoke(model, "-o", tmp_path / "models")
    for arguments, message in (
        ((model, "-o", tmp_path / "models"), "1: exists; give another --version, or remove it"),
        ((model, "-o", tmp_path / "a", "--name", "a b"), "give a --name of letters"),
        ((model, "-o", tmp_path / "a", "--max-queue-delay", 1), "nothing to wait for: give --max-batch-size"),
        ((model, "-o", tmp_path / "a", "--backend", "tensorrt"), "make one with rms-deploy build"),
        ((tmp_path / "no.onnx", "-o", tmp_path / "a"), "no.onnx: no such file"),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 1
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
    assert not (tmp_path / "a").exists()


def test_wrong_usage(tmp_path, model):
    assert invoke(model).exit_code == 2
    for value in ("cpu", "=1", "cpu=x", "cpu=-1"):
        result = invoke(model, "-o", tmp_path / "a", "--instances", value)
        assert result.exit_code == 2
        assert "write each device once, as in cpu=2" in result.stderr
