"""`rms-deploy cast`: what it prints, the exit code, and one line for every mistake."""

from __future__ import annotations

import json

import onnx
import onnx.parser
import pytest
from click.testing import CliRunner

from rms_deploy.cli.main import rms_deploy

NORM = """q = Pow(x, two) m = ReduceMean<keepdims = 1>(q, axes) e = Add(m, eps) r = Sqrt(e) n = Div(x, r) s = Mul(n, w)
    c = CumSum(s, axis) y = Neg(c)"""


def write(path, body=NORM):
    text = f"""<ir_version: 8, opset_import: ["" : 18]> g (float[b,4] x) => (float[b,4] y)
        <float two = {{2}}, float eps = {{1e-6}}, int64[1] axes = {{-1}}, int64 axis = {{1}}, float[4] w = {{1,2,3,4}}>
        {{ {body} }}"""
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def invoke(*arguments, quiet=False):
    flags = ["-q"] if quiet else []
    return CliRunner().invoke(rms_deploy, [*flags, "cast", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write(tmp_path / "m.onnx")


def test_it_says_what_stays_and_that_the_result_is_equal(model):
    result = invoke(model)
    assert result.exit_code == 0
    first, *_, last = result.stdout.splitlines()
    assert first == "cast 2 of 3 nodes to float16, 1 of them norms; in float32 stay 1 CumSum -> m-float16.onnx"
    assert last.startswith("equal within 0.0")
    assert "same formula in float64" in last
    assert model.with_name("m-float16.onnx").exists()


def test_explain_lists_the_reasons(model, tmp_path):
    result = invoke(model, "-o", tmp_path / "o.onnx", "--explain", "--keep", "Neg")
    rows = [line.split() for line in result.stdout.splitlines()[:3]]
    assert rows[0][:3] == ["stays", "in", "float32"]
    assert rows[1][:2] == ["CumSum", "CumSum"]
    assert rows[2] == ["Neg", "Neg", "asked", "for"]


def test_json(model, tmp_path):
    result = invoke(model, "-o", tmp_path / "o.onnx", "--json", "--to", "bfloat16", "--keep-io")
    data = json.loads(result.stdout)
    assert (data["to"], data["cast_count"], data["norm_count"]) == ("bfloat16", 2, 1)
    assert data["output"] == str(tmp_path / "o.onnx")
    assert data["kept"] == [
        {"node": "CumSum", "op_type": "CumSum", "reason": "ONNX Runtime's converter keeps this operator"}
    ]
    assert data["verification"]["passed"]


def test_what_differs_ends_with_1_and_is_not_written(tmp_path):
    """1.0001 is 1 in float16."""
    path = write(tmp_path / "m.onnx", "v = Constant<value_float = 1.0001>() a = Mul(x, v) y = Sub(a, x)")
    result = invoke(path, "-o", tmp_path / "o.onnx")
    assert result.exit_code == 1
    assert "; nothing was written" in result.stdout
    assert "NOT equal within" in result.stdout.splitlines()[-1]
    assert not (tmp_path / "o.onnx").exists()


def test_without_the_comparison(model, tmp_path):
    result = invoke(model, "-o", tmp_path / "o.onnx", "--no-verify", quiet=True)
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    assert (tmp_path / "o.onnx").exists()


def test_numbers_only_ends_with_3(tmp_path):
    """A SkipSimplifiedLayerNormalization does not run in float64."""
    path = write(
        tmp_path / "m.onnx",
        NORM.replace("q = Pow(x, two)", "h = Abs(x) t = Add(x, h) q = Pow(t, two)").replace("Div(x, r)", "Div(t, r)"),
    )
    result = invoke(path, "-o", tmp_path / "o.onnx", "--target", "onnxruntime")
    assert result.exit_code == 3
    assert "numbers only" in result.stdout.splitlines()[-1]
    assert (tmp_path / "o.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["missing.onnx"], 1, "Error: missing.onnx: no such file"),
        (["m.onnx", "--to", "float8"], 2, "'float8' is not one of 'float16', 'bfloat16'"),
        (["m.onnx", "--keep", "Softmax"], 1, "Error: --keep: the fused model has no node and no operator 'Softmax'"),
        (["m.onnx", "--shape", "z=1x4"], 1, "Error: the model has no input 'z'; it has x"),
    ],
)
def test_mistakes_are_one_line(model, arguments, code, message):
    assert model.exists()
    result = invoke(*arguments, quiet=True)
    assert result.exit_code == code
    assert message in result.stderr.splitlines()[-1]
