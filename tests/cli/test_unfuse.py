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
    assert (data["unfused"], data["norms"][0]["kind"], data["near_misses"]) == (1, "RMSNorm", [])


def test_bad_input_is_one_line_and_exit_code_1(tmp_path):
    result = invoke("unfuse", tmp_path / "missing.onnx", "-o", tmp_path / "out.onnx")
    assert result.exit_code == 1
    assert "no such file" in result.stderr
