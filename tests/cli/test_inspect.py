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
        "can",
        "be",
        "fused",
    ]
    assert total == "1 decomposed RMSNorm"


def test_near_misses(tmp_path, build):
    onnx.save(build(NORM, inputs="float[b,s,8] x, float eps"), tmp_path / "m.onnx")
    result = invoke(tmp_path / "m.onnx")
    assert "epsilon is a graph input (eps)" in result.stdout
    assert result.stdout.splitlines()[-1] == "no norms; 1 near miss"


def test_a_reason_names_the_flags_of_fuse(tmp_path, build):
    body = "c = Constant <value = float16 {14131}> () " + NORM.replace("eps", "c").replace("scale", "g")
    half = build(body, inputs="float16[b,s,8] x, float16[8] g", outputs="float16[b,s,8] y")
    onnx.save(half, tmp_path / "m.onnx")
    assert "--allow-precision-gain fuses it" in invoke(tmp_path / "m.onnx").stdout
    reason = json.loads(invoke(tmp_path / "m.onnx", "--json").stdout)["near_misses"][0]["reason"]
    assert "`allow_precision_gain=True` fuses it" in reason


def test_json(model):
    data = json.loads(invoke(model, "--json").stdout)
    assert (data["norm_count"], data["near_miss_count"], data["form_count"]) == (1, 0, {"decomposed RMSNorm": 1})


def test_a_missing_file(tmp_path):
    result = invoke(tmp_path / "m.onnx")
    assert result.exit_code == 1
    assert "no such file" in result.stderr
