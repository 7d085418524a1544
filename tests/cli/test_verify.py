"""`rms-deploy verify`: the table, the verdict, the exit code, and one line for every mistake."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import onnx.parser
import pytest
from click.testing import CliRunner
from onnx.external_data_helper import convert_model_to_external_data

from rms_deploy.cli.main import rms_deploy


def write(path, body="y = Exp(x)", *, ir_version=8, domain=""):
    opsets = f'["" : 18{domain}]'
    text = f"<ir_version: {ir_version}, opset_import: {opsets}> g (float[batch,8] x) => (float[batch,8] y) {{ {body} }}"
    onnx.save(onnx.parser.parse_model(text), path)
    return str(path)


def invoke(*arguments):
    return CliRunner().invoke(rms_deploy, ["verify", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def same(tmp_path):
    return write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx", "z = Identity(x) y = Exp(z)")


@pytest.fixture
def different(tmp_path):
    return write(tmp_path / "a.onnx"), write(tmp_path / "c.onnx", "z = Exp(x) y = Neg(z)")


def test_equal_models_end_with_0(same):
    result = invoke(*same, "--no-library")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["normal", "outlier", "tiny", "huge"]
    assert lines[-1].startswith("equal within 4.8e-07 (4 eps(float32) sqrt(1 roundings in a row)): 4 comparisons")


def test_different_models_end_with_1(different):
    result = invoke(*different, "--no-library", "--shape", "x=3x8", "--seed", "5")
    assert result.exit_code == 1
    assert "x=3x8" in result.stdout
    last = result.stdout.splitlines()[-1]
    assert last.startswith("NOT equal within 4.8e-07")
    assert "worst y for" in last


def test_quiet_prints_the_verdict_only(different):
    result = CliRunner().invoke(rms_deploy, ["-q", "verify", *different, "--no-library"], catch_exceptions=False)
    assert result.exit_code == 1
    assert len(result.output.splitlines()) == 1
    assert result.stderr == ""


def test_json_has_every_comparison(different):
    result = invoke(*different, "--no-library", "--json", "--dim", "batch=3")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert data["passed"] is False
    assert data["shapes"] == {"x": [3, 8]}
    assert data["checks"][0]["relative_l2"] == pytest.approx(2)
    assert data["reference"] == {"model": different[0], "run": "as it is, unoptimised"}
    assert data["tolerance_origin"] == "4 eps(float32) sqrt(1 roundings in a row)"


def test_inputs_from_a_file_and_a_tolerance(different, tmp_path):
    np.savez(tmp_path / "in.npz", x=np.zeros((1, 8), np.float32))
    arguments = (*different, "--no-library", "--inputs", tmp_path / "in.npz")
    assert invoke(*arguments, "--tolerance", "1.9").exit_code == 1
    result = invoke(*arguments, "--tolerance", "2")
    assert result.exit_code == 0
    assert "equal within 2 (given): 1 comparison," in result.stdout


def test_a_model_of_tokens_says_that_no_magnitudes_ran(tmp_path, same):
    text = (
        '<ir_version: 8, opset_import: ["" : 18]> g (int64[batch,seq] ids) => (float[batch,seq,2] y) '
        "<float[3,2] table = {1, 2, 3, 4, 5, 6}> { y = Gather(table, ids) }"
    )
    onnx.save(onnx.parser.parse_model(text), tmp_path / "ids.onnx")
    result = invoke(tmp_path / "ids.onnx", tmp_path / "ids.onnx", "--no-library")
    assert "inputs:    ids=2x16; no float input, or only a cache: normal only\n" in result.stdout
    assert "normal only" not in invoke(*same, "--no-library").stdout
    assert "same formula in float64: 0" in result.stdout


@pytest.fixture
def products(tmp_path):
    """A writer of models of one weight; `added` is what they differ in."""

    def make(name, added=0.0):
        text = (
            '<ir_version: 8, opset_import: ["" : 18]> g (float[n,2] x) => (float[n,2] y) '
            f"<float[2,2] w = {{1, 2, 3, 4}}, float b = {{{added}}}> "
            "{ a = Sigmoid(x) b1 = Add(a, b) c = MatMul(b1, w) y = Neg(c) }"
        )
        model = onnx.parser.parse_model(text)
        model.graph.node[1].name = "/layers.1/norm/Add"
        onnx.save(model, tmp_path / name)
        return str(tmp_path / name)

    return make


def test_numbers_only_is_yellow_and_ends_with_3(products):
    pair = products("a.onnx"), products("b.onnx")
    result = invoke(*pair, "--no-library", "--memory", "6e-8")
    assert result.exit_code == 3
    assert "compared:  numbers only\n" in result.stdout
    last = result.stdout.splitlines()[-1]
    assert "; numbers only: formula not compared: the reference needs 6.7e-08 GiB in float64" in last
    assert "may take 6e-08 GiB" in last
    assert json.loads(invoke(*pair, "--memory", "6e-8", "--json").stdout)["compared"] == "numbers only"
    refused = invoke(*pair, "--memory", "1e-8")
    assert refused.exit_code == 1
    assert "--memory is 1e-08 GiB; ONNX Runtime needs about 5.6e-08 GiB for the weights of " in refused.stderr
    whole = invoke(*pair, "--no-library")
    assert whole.exit_code == 0
    assert "compared:  whole and in 3 parts\n" in whole.stdout


def test_where_two_models_part(products):
    result = invoke(products("a.onnx"), products("b.onnx", added=0.5), "--no-library")
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("they part: ")]
    assert line.startswith("they part: in b1, node /layers.1/norm/Add of module layers.1/norm, in float64, for real ")
    assert ": 0 in front of it, relative L2 " in line


def test_a_part_may_differ_where_the_outputs_do_not(tmp_path):
    """The mean squares are 1e6, and the epsilons 1e-5 and 2e-5."""
    for epsilon in (1, 2):
        text = (
            '<ir_version: 8, opset_import: ["" : 18]> g (int64[n] ids) => (float[n,2] y) '
            "<float[2,2] t = {1000, 2000, -500, 900}, float[2,2] w = {1, 2, 3, 4}, int64[1] axes = {-1}, "
            f"float eps = {{{epsilon}e-5}}> {{ x = Gather(t, ids) s = Mul(x, x) m = ReduceMean(s, axes) "
            "b = Add(m, eps) r = Sqrt(b) d = Div(x, r) c = MatMul(d, w) y = Neg(c) }"
        )
        onnx.save(onnx.parser.parse_model(text), tmp_path / f"{epsilon}.onnx")
    result = invoke(tmp_path / "1.onnx", tmp_path / "2.onnx", "--no-library")
    assert result.exit_code == 1
    last = result.stdout.splitlines()[-1]
    assert "the outputs are, but not 1 of the parts in float64: relative L2 0.2" in last
    assert "they part: in d, node Div, in float64, for tiny numbers: 0 in front of it, " in result.stdout


def test_limits_of_each_element(products):
    pair = products("a.onnx"), products("b.onnx", added=1e-6)
    arguments = (*pair, "--no-library", "--tolerance", "1")
    assert invoke(*arguments, "--rtol", "1e-3").exit_code == 0
    result = invoke(*arguments, "--rtol", "y=0", "--atol", "y=0")
    assert result.exit_code == 1
    assert "differ by more than rtol 0 and atol 0 allow" in result.stdout
    assert invoke(*arguments, "--rtol", "y=high").exit_code == 2
    assert "no output 'q'; it has y" in invoke(*arguments, "--atol", "q=1").stderr


def test_many_ulps_beside_equal_have_their_reason(tmp_path):
    """x - 1 near 1, where one of them rounds x + 1 first."""
    text = '<ir_version: 8, opset_import: ["" : 18]> g (float[n] x) => (float[n] y) <float q = {{{}}}> {{ {} }}'
    same = ("y = Sub(x, q)", "a = Add(x, q) b = Sub(a, q) y = Sub(b, q)")
    for name, body in zip("ab", same, strict=True):
        onnx.save(onnx.parser.parse_model(text.format("1.0", body)), tmp_path / f"{name}.onnx")
    np.savez(tmp_path / "in.npz", x=np.array([1 + 2**-23, 5, 1.0 + 2**-22], np.float32))
    result = invoke(tmp_path / "a.onnx", tmp_path / "b.onnx", "--inputs", tmp_path / "in.npz", "--no-library")
    assert result.exit_code == 0
    assert "* max ulp:  of an element near zero, " in result.stdout


def mistakes(tmp_path):
    good = write(tmp_path / "good.onnx")
    content = (tmp_path / "good.onnx").read_bytes()
    (tmp_path / "truncated.onnx").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.onnx").write_text("this is not a model")
    (tmp_path / "empty.onnx").write_bytes(b"")
    newer = write(tmp_path / "newer.onnx", ir_version=99)
    unknown = write(tmp_path / "unknown.onnx", "y = acme.Exp(x)", domain=', "acme" : 1')
    bare = write(tmp_path / "bare.onnx", "y = rms_deploy.RMSNorm(x, x)", domain=', "rms_deploy" : 1')
    np.savez(tmp_path / "in.npz", z=np.zeros((1, 8), np.float32))
    return {
        "missing": ((good, tmp_path / "missing.onnx"), "missing.onnx: no such file"),
        "folder": ((tmp_path, good), "is a directory"),
        "truncated": ((good, tmp_path / "truncated.onnx"), "truncated.onnx: is not an ONNX model, or is truncated"),
        "text": ((tmp_path / "text.onnx", good), "text.onnx: is not an ONNX model"),
        "empty": ((good, tmp_path / "empty.onnx"), "empty.onnx: is not an ONNX model"),
        "newer": ((good, newer), "IR version 99 is newer than"),
        "unknown": ((good, unknown), "acme"),
        "bare": ((good, bare, "--no-library"), "RMSNorm"),
        "data": ((good, external(tmp_path)), "external data file weights.bin is missing"),
        "shape": (
            (good, good, "--shape", "x=1x9"),
            "input x: shape [1, 9] was given; the model takes float32[batch,8]",
        ),
        "name": ((good, good, "--shape", "z=1"), "the model has no input 'z'; it has x"),
        "dim": ((good, good, "--dim", "z=1"), "the model has no dynamic dimension 'z'; it has batch"),
        "inputs": ((good, good, "--inputs", tmp_path / "in.npz"), "the model has no input 'z'"),
        "no inputs": ((good, good, "--inputs", tmp_path / "no.npz"), "no.npz: no such file"),
    }


def external(tmp_path):
    """A model whose weights were left behind."""
    text = (
        '<ir_version: 8, opset_import: ["" : 18]> g (float[batch,8] x) => (float[batch,8] y) '
        "<float[8] w = {1, 2, 3, 4, 5, 6, 7, 8}> { y = Mul(x, w) }"
    )
    model = onnx.parser.parse_model(text)
    model.graph.initializer[0].raw_data = onnx.numpy_helper.to_array(model.graph.initializer[0]).tobytes()
    model.graph.initializer[0].ClearField("float_data")
    convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    path = tmp_path / "external.onnx"
    onnx.save(model, path)
    (tmp_path / "weights.bin").unlink()
    return path


CASES = (
    *("missing", "folder", "truncated", "text", "empty", "newer", "unknown", "bare", "data", "shape", "name", "dim"),
    *("inputs", "no inputs"),
)


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_line_and_exit_code_1(tmp_path, case):
    arguments, message = mistakes(tmp_path)[case]
    result = CliRunner().invoke(rms_deploy, ["-q", "verify", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert message in result.stderr


def test_a_mistake_has_no_traceback_and_no_noise_in_a_process_of_its_own(tmp_path):
    for case in ("unknown", "truncated"):
        arguments, message = mistakes(tmp_path)[case]
        command = [sys.executable, "-m", "rms_deploy", "-q", "verify", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stdout == ""
        assert message in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


def test_a_wrong_option_is_a_usage_error(same):
    assert invoke(*same, "--tolerance", "-1").exit_code == 2
    assert invoke(same[0]).exit_code == 2


def test_a_model_that_never_ends_is_one_line(tmp_path):
    loop = "y = Loop (, yes, x) <body = body (int64 i, bool k, float[batch,8] a) => (bool j, float[batch,8] d) \
        { j = Identity (k) d = Identity (a) }>"
    path = write(tmp_path / "endless.onnx", f"yes = Constant <value = bool {{1}}> () {loop}")
    result = invoke(path, path, "--timeout", "6", "--no-library")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].endswith("did not end within 6 s, and was ended; a longer --timeout waits")


def test_an_endpoint_takes_the_place_of_the_candidate(tmp_path):
    from ..made_server import Model, serving

    model = write(tmp_path / "a.onnx", "y = Neg(x)")
    with serving(Model(lambda feeds: {"y": -feeds["x"]}, {"x": "FP32"}, {"y": "FP32"}), "grpc") as url:
        result = invoke(model, "--endpoint", url, "--shape", "x=3x8", "--timeout", "30")
        assert result.exit_code == 3, result.output
        assert "numbers only: formula not compared: a server has no float64" in result.stdout
        assert "candidate: by the server" in result.stdout
        assert f"verifying {url}" in result.stderr
        result = invoke(model, "--endpoint", f"{url}x")
    assert result.exit_code == 1
    assert "the server has no model mx; it has m, other" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["b.onnx", "--endpoint", "grpc://h:1/m"]])
def test_one_candidate_is_needed(same, arguments):
    result = invoke(same[0], *arguments)
    assert result.exit_code == 2
    assert "Give CANDIDATE or --endpoint, one of them." in result.stderr


def test_an_endpoint_is_no_file(same):
    result = invoke(same[0], "--endpoint", same[1])
    assert result.exit_code == 1
    assert "is no endpoint; write it as grpc://host:port/model" in result.stderr


UNLINKED = (
    '<ir_version: 8, opset_import: ["" : 18]> g (float[batch,seq] x, float[batch,past] p, float[batch,total] m) => '
    "(float[batch,t] y) { c = Concat <axis = 1> (p, x) y = Add (c, m) }"
)
"""The sum of two sizes has a name of its own, so no guess can fit."""


def test_a_guess_that_does_not_fit_names_dim(tmp_path):
    onnx.save(onnx.parser.parse_model(UNLINKED), tmp_path / "m.onnx")
    pair = tmp_path / "m.onnx", tmp_path / "m.onnx"
    result = invoke(*pair)
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.endswith(
        "these sizes were guessed: batch=2, seq=16, past=16, total=16; "
        "give those that do not fit, such as --dim total=16"
    )
    assert invoke(*pair, "--dim", "total=32").exit_code == 0
