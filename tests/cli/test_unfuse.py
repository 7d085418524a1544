from __future__ import annotations

import json

import onnx
import pytest
from click.testing import CliRunner

from rms_deploy.cli.main import rms_deploy
from rms_deploy.fusion.fuse import fuse

NORM = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, scale)"


def invoke(*arguments):
    return CliRunner().invoke(rms_deploy, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def fused(tmp_path, build):
    fuse(build(NORM), tmp_path / "fused.onnx")
    return tmp_path / "fused.onnx"


def test_writes_primitives(fused, tmp_path):
    result = invoke("unfuse", fused, "-o", tmp_path / "out.onnx")
    assert result.exit_code == 0
    assert result.stdout == f"unfused 1 norms -> {tmp_path / 'out.onnx'}\n"
    model = onnx.load(tmp_path / "out.onnx")
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    assert len(fuse(tmp_path / "out.onnx").norms) == 1


def test_in_place_and_twice(fused):
    assert invoke("unfuse", fused, "-o", fused).exit_code == 0
    once = fused.read_bytes()
    assert "unfused 0 norms" in invoke("unfuse", fused, "-o", fused).stdout
    assert fused.read_bytes() == once


def test_json(fused, tmp_path):
    data = json.loads(invoke("unfuse", fused, "-o", tmp_path / "out.onnx", "--json").stdout)
    assert (data["norm_count"], data["norms"][0]["kind"], data["near_misses"]) == (1, "RMSNorm", [])
    assert (data["near_miss_count"], data["output"]) == (0, str(tmp_path / "out.onnx"))


def test_the_output_by_default_is_in_the_current_folder(fused, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert invoke("unfuse", fused).stdout == "unfused 1 norms -> fused-unfused.onnx\n"
    assert (here / "fused-unfused.onnx").is_file()


def test_bad_input_is_one_line_and_exit_code_1(tmp_path):
    result = invoke("unfuse", tmp_path / "missing.onnx", "-o", tmp_path / "out.onnx")
    assert result.exit_code == 1
    assert "no such file" in result.stderr
