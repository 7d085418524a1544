from __future__ import annotations

import json

import onnx
import pytest
from click.testing import CliRunner

from rms_deploy.cli.main import rms_deploy

NORM = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, scale)"


def invoke(*arguments):
    return CliRunner().invoke(rms_deploy, ["inspect", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def model(tmp_path, build):
    proto = build(NORM)
    for node in proto.graph.node:
        node.name = f"/layers.0/norm/{node.output[0]}"
    onnx.save(proto, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_table(model):
    result = invoke(model)
    assert result.exit_code == 0
    header, row, total = result.stdout.splitlines()
    assert header.split() == ["place", "norm", "n", "dtype", "epsilon", "scale", "state"]
    assert row.split() == [
        "layers.0/norm",
        "RMSNorm",
        "8",
        "float32",
        "0.0003",
        "float32[8]",
        "decomposed:",
        "fuse",
        "takes",
        "it",
    ]
    assert total == "1 decomposed RMSNorm"


def test_near_misses(tmp_path, build):
    onnx.save(build(NORM, inputs="float[b,s,8] x, float eps"), tmp_path / "m.onnx")
    result = invoke(tmp_path / "m.onnx")
    assert "epsilon is a graph input (eps)" in result.stdout
    assert result.stdout.splitlines()[-1] == "no norms; 1 near misses"


def test_json(model):
    data = json.loads(invoke(model, "--json").stdout)
    assert data["count"] == {"decomposed RMSNorm": 1}


def test_a_missing_file(tmp_path):
    result = invoke(tmp_path / "m.onnx")
    assert result.exit_code == 1
    assert "no such file" in result.stderr
