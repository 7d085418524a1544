from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from rms_deploy.cli.main import rms_deploy

NORM = "q = Mul (h, h) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (h, r) y = Mul (n, scale)"


def invoke(*arguments):
    return CliRunner().invoke(rms_deploy, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def model(tmp_path, build):
    path = tmp_path / "in.onnx"
    onnx.save(build(f"h = Add (x, z) {NORM}", inputs="float[b,s,8] x, float[b,s,8] z"), path)
    return path


def ops(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def test_fuses(model, tmp_path):
    result = invoke("fuse", model, "-o", tmp_path / "out.onnx")
    assert result.exit_code == 0
    assert result.stdout == (
        f"fused 1 of 1 norms (1 AddRMSNorm) -> {tmp_path / 'out.onnx'}\n"
        "ran 1 of them in both forms: at most 0 ulp apart\n"
    )
    assert ops(tmp_path / "out.onnx") == ["AddRMSNorm"]


def test_no_residual(model, tmp_path):
    invoke("fuse", model, "-o", tmp_path / "out.onnx", "--no-residual")
    assert ops(tmp_path / "out.onnx") == ["Add", "RMSNorm"]


def test_no_gate(build, tmp_path):
    body = f"s = Sigmoid (z) g = Mul (z, s) h = Mul (x, g) {NORM}"
    path = tmp_path / "gated.onnx"
    onnx.save(build(body, inputs="float[b,s,8] x, float[b,s,8] z"), path)
    invoke("fuse", path, "-o", tmp_path / "out.onnx")
    assert ops(tmp_path / "out.onnx") == ["SiluGateRMSNorm"]
    invoke("fuse", path, "-o", tmp_path / "out.onnx", "--no-gate")
    assert ops(tmp_path / "out.onnx") == ["Sigmoid", "Mul", "Mul", "RMSNorm"]


def test_in_place_and_twice(model):
    assert invoke("fuse", model, "-o", model).exit_code == 0
    once = model.read_bytes()
    result = invoke("fuse", model, "-o", model)
    assert "fused 0 of 0 norms, 1 were fused before" in result.stdout
    assert model.read_bytes() == once


def test_explain(tmp_path, build):
    other = NORM.replace("eps", "w").replace("h", "x")
    for name in "qmerny":
        other = (
            other.replace(f"{name} =", f"{name}2 =")
            .replace(f"({name},", f"({name}2,")
            .replace(f"({name})", f"({name}2)")
        )
    body = NORM.replace("h", "x") + " " + other.replace(", r)", ", r2)").replace("(q,", "(q2,")
    model = build(body, inputs="float[b,s,8] x, float w", outputs="float[b,s,8] y, float[b,s,8] y2")
    model.graph.node[8].name = "layers.3/Add_2"
    onnx.save(model, tmp_path / "in.onnx")
    result = invoke("fuse", tmp_path / "in.onnx", "-o", tmp_path / "out.onnx", "--explain")
    assert "fused 1 of 2 norms" in result.stdout
    assert "float32[8]" in result.stdout
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("layers.3/Add_2")]
    assert line.split() == ["layers.3/Add_2", "epsilon", "epsilon", "is", "a", "graph", "input", "(w)"]
    quiet = invoke("fuse", tmp_path / "in.onnx", "-o", tmp_path / "out.onnx")
    assert "1 near miss; --explain says why" in quiet.stdout


def test_json(model, tmp_path):
    result = invoke("fuse", model, "-o", tmp_path / "out.onnx", "--json")
    data = json.loads(result.stdout)
    assert (data["norm_count"], data["near_miss_count"], data["norms"][0]["kind"]) == (1, 0, "AddRMSNorm")
    assert (data["model"], data["output"]) == (str(model), str(tmp_path / "out.onnx"))


def test_a_model_without_norms_is_said(tmp_path, build):
    onnx.save(build("y = Exp (x)"), tmp_path / "in.onnx")
    result = invoke("fuse", tmp_path / "in.onnx", "-o", tmp_path / "out.onnx")
    assert result.exit_code == 0
    assert "warning:" in result.stderr
    assert "it has no RMSNorm" in result.stderr
    assert ops(tmp_path / "out.onnx") == ["Exp"]


@pytest.mark.parametrize("bad", ["missing", "directory", "text", "truncated"])
def test_bad_input_is_one_line_and_exit_code_1(bad, model, tmp_path):
    path = tmp_path / "bad.onnx"
    if bad == "directory":
        path.mkdir()
    elif bad != "missing":
        path.write_bytes(b"not a model" if bad == "text" else model.read_bytes()[:-20])
    result = invoke("fuse", path, "-o", tmp_path / "out.onnx")
    assert result.exit_code == 1
    assert [line for line in result.stderr.splitlines() if "Error" in line] == [result.stderr.splitlines()[-1]]
    assert str(path) in result.stderr.splitlines()[-1]
    assert not (tmp_path / "out.onnx").exists()


def test_bad_output(model, tmp_path):
    result = invoke("fuse", model, "-o", tmp_path)
    assert result.exit_code == 1
    assert "is a directory" in result.stderr


def test_the_output_by_default_is_in_the_current_folder(model, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    result = invoke("fuse", model)
    assert result.stdout.splitlines()[0] == "fused 1 of 1 norms (1 AddRMSNorm) -> in-fused.onnx"
    assert ops(here / "in-fused.onnx") == ["AddRMSNorm"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "in.onnx"]


def test_without_proof(model, tmp_path):
    result = invoke("fuse", model, "-o", tmp_path / "out.onnx", "--no-verify")
    assert "in both forms" not in result.stdout
    data = json.loads(invoke("fuse", model, "-o", tmp_path / "out.onnx", "--no-verify", "--json").stdout)
    assert data["norms"][0]["max_ulp"] is None


@pytest.mark.parametrize(
    ("target", "kinds"),
    [
        ("standard", ["Add", "RMSNormalization"]),
        ("onnxruntime", ["SkipSimplifiedLayerNormalization"]),
        ("tensorrt-plugin", ["AddRMSNorm"]),
        ("decomposed", ["Add", "Constant", "Pow", "ReduceMean"]),
    ],
)
def test_targets(target, kinds, model, tmp_path):
    assert invoke("fuse", model, "-o", tmp_path / "out.onnx", "--target", target).exit_code == 0
    assert set(kinds) <= set(ops(tmp_path / "out.onnx"))


def test_an_unknown_target_is_a_wrong_usage(model, tmp_path):
    assert invoke("fuse", model, "-o", tmp_path / "out.onnx", "--target", "tvm").exit_code == 2


def test_no_functions(model, tmp_path):
    invoke("fuse", model, "-o", tmp_path / "out.onnx", "--no-functions")
    assert not onnx.load(tmp_path / "out.onnx").functions


def test_require_all(model, tmp_path, build):
    assert invoke("fuse", model, "-o", tmp_path / "out.onnx", "--require-all").exit_code == 0
    onnx.save(
        build(NORM.replace("h", "x").replace("eps", "w"), inputs="float[b,s,8] x, float w"), tmp_path / "miss.onnx"
    )
    result = invoke("fuse", tmp_path / "miss.onnx", "-o", tmp_path / "none.onnx", "--require-all")
    assert result.exit_code == 1
    assert "1 near miss, the first at e: epsilon is a graph input (w)" in result.stderr
    assert not (tmp_path / "none.onnx").exists()
    data = invoke("fuse", tmp_path / "miss.onnx", "-o", tmp_path / "none.onnx", "--require-all", "--json").stdout
    assert '"output": null' in data
    assert invoke("fuse", tmp_path / "miss.onnx", "-o", tmp_path / "none.onnx").exit_code == 0


DIVIDED = NORM.replace("h", "x")
"""A norm of x."""

NEAR_MISSES = {
    "epsilon is a graph input": (
        DIVIDED.replace("eps", "w"),
        "float[b,s,8] x, float w",
        ("layers.3/Add", "epsilon", "epsilon is a graph input (w)"),
    ),
    "epsilon per row": (
        f"w = Exp (a) {DIVIDED.replace('eps', 'w')}",
        "float[b,s,8] x, float[b,s,1] a",
        ("layers.3/Add", "epsilon", "epsilon is not constant (w is computed at run time)"),
    ),
    "nothing divides x": (
        "q = Mul (x, x) m = ReduceMean (q, last) y = Exp (m)",
        "float[b,s,8] x",
        ("layers.3/ReduceMean", "mean_square", "layers.3/Exp is not a piece of a norm"),
    ),
    "another tensor is divided": (
        DIVIDED.replace("Div (x,", "Div (z,"),
        "float[b,s,8] x, float[b,s,8] z",
        ("layers.3/Div", "another tensor is divided by the root (z) than was squared (x)"),
    ),
    "the fused op of another runtime with more outputs": (
        "n, k, i = com.microsoft.SkipSimplifiedLayerNormalization (x, x, scale) y = Mul (n, i)",
        "float[b,s,8] x",
        ("layers.3/SkipSimplifiedLayerNormalization", "foreign", "its mean or its inverse root is used"),
    ),
}


def test_a_part_that_stays_outside_is_listed_and_counts(tmp_path, build):
    model = build(f"h = Add (x, z) {NORM}", inputs="float[b,s,8] x, float[c,s,8] z")
    onnx.save(model, tmp_path / "in.onnx")
    result = invoke("fuse", tmp_path / "in.onnx", "-o", tmp_path / "out.onnx", "--explain")
    assert "fused 1 of 1 norms" in result.stdout
    assert (
        "residual  the Add h stays: x ([b, s, 8]) and z ([c, s, 8]) are not proven to have one shape" in result.stdout
    )
    strict = invoke("fuse", tmp_path / "in.onnx", "-o", tmp_path / "none.onnx", "--require-all")
    assert strict.exit_code == 1
    assert not (tmp_path / "none.onnx").exists()


@pytest.mark.parametrize(("body", "inputs", "said"), NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_every_near_miss_names_its_node_and_the_piece_that_failed(body, inputs, said, tmp_path, build):
    model = build(body, inputs=inputs)
    for node in model.graph.node:
        node.name = f"layers.3/{node.op_type}"
    onnx.save(model, tmp_path / "in.onnx")
    result = invoke("fuse", tmp_path / "in.onnx", "-o", tmp_path / "out.onnx", "--explain")
    assert result.exit_code == 0
    assert "fused 0 of 1 norms" in result.stdout
    assert ops(tmp_path / "out.onnx") == [node.op_type for node in model.graph.node]
    strict = invoke("fuse", tmp_path / "in.onnx", "-o", tmp_path / "none.onnx", "--require-all")
    assert strict.exit_code == 1
    assert "1 near miss, the first at layers.3/" in strict.stderr
    assert not (tmp_path / "none.onnx").exists()
    for part in said:
        assert part in result.stdout


def test_require_all_writes_nothing_over_a_file_that_is_there(tmp_path, build):
    path = tmp_path / "in.onnx"
    onnx.save(build(DIVIDED.replace("eps", "w"), inputs="float[b,s,8] x, float w"), path)
    before = path.read_bytes()
    assert invoke("fuse", path, "-o", path, "--require-all").exit_code == 1
    assert path.read_bytes() == before


def test_function_bodies_are_included_by_default(model, tmp_path):
    invoke("fuse", model, "-o", tmp_path / "out.onnx")
    fused = onnx.load(tmp_path / "out.onnx")
    assert [(function.domain, function.name) for function in fused.functions] == [("rms_deploy", "AddRMSNorm")]


def test_explain_says_why_a_sum_stays_outside(model, tmp_path, monkeypatch):
    from rms_deploy.fusion.passes import fuse_add_rms_norm

    right = fuse_add_rms_norm._replace

    def wrong(add, norm, place, facts):
        node = right(add, norm, place, facts)
        node.replace_input_with(1, node.inputs[0])
        return node

    monkeypatch.setattr(fuse_add_rms_norm, "_replace", wrong)
    monkeypatch.setenv("COLUMNS", "400")
    result = invoke("fuse", model, "-o", tmp_path / "out.onnx", "--explain")
    assert ops(tmp_path / "out.onnx") == ["Add", "RMSNorm"]
    assert "stays: run on random rows, the op differs" in result.stdout


def test_a_folder(tmp_path, build):
    zoo = tmp_path / "zoo"
    zoo.mkdir()
    onnx.save(build(DIVIDED), zoo / "a.onnx")
    onnx.save(build(DIVIDED.replace("eps", "w"), inputs="float[b,s,8] x, float w"), zoo / "b.onnx")
    result = invoke("fuse", zoo, "-o", tmp_path / "out", "--explain")
    assert result.exit_code == 0
    header, first, second, *_ = lines = result.stdout.splitlines()
    assert header.split() == ["model", "why", "norms", "fused", "left", "seconds"]
    assert first.split()[:3] == ["a.onnx", "1", "1"]
    assert second.startswith("b.onnx  epsilon is a graph input (w)")
    assert second.split()[-4:-1] == ["1", "0", "1"]
    assert lines[3] == "b.onnx:"
    assert lines[-1] == f"fused 1 norms; wrote 2 of 2 models -> {tmp_path / 'out'}"
    strict = invoke("fuse", zoo, "-o", tmp_path / "strict", "--require-all")
    assert strict.exit_code == 1
    assert strict.stderr.splitlines()[-1] == f"Error: {zoo}: of 2 models 1 have near misses, the first is b.onnx"
    assert [path.name for path in (tmp_path / "strict").iterdir()] == ["a.onnx"]


def test_a_broken_model_of_a_folder(tmp_path, build, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zoo = tmp_path / "zoo"
    zoo.mkdir()
    onnx.save(build(DIVIDED), zoo / "a.onnx")
    (zoo / "b.onnx").write_bytes(b"no model")
    result = invoke("fuse", "zoo", "--json")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "Error: zoo: of 2 models 1 failed, the first is b.onnx"
    data = json.loads(result.stdout)
    assert (data["output"], data["failed_count"], data["models"][0]["fused_count"]) == ("zoo-fused", 1, 1)
    assert data["models"][1]["failure"] == "zoo/b.onnx: is not an ONNX model, or is truncated (8 bytes)"
    assert ops(tmp_path / "zoo-fused" / "a.onnx") == ["RMSNorm"]


def test_jobs_are_for_a_folder(model, tmp_path):
    result = invoke("fuse", model, "-o", tmp_path / "out.onnx", "--jobs", "2")
    assert result.exit_code == 2
    assert "--jobs and --ray are for a folder" in result.stderr


def test_save_as_external(tmp_path, build):
    source = build(NORM.replace("h", "x"), inputs="float[b,s,8] x")
    weights = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)
    source.graph.node.append(onnx.helper.make_node("MatMul", ["y", "w"], ["z"]))
    source.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    source.graph.output.append(onnx.helper.make_tensor_value_info("z", 1, ["b", "s", 64]))
    folder = tmp_path / "in"
    folder.mkdir()
    onnx.save(source, folder / "in.onnx", save_as_external_data=True, location="w.bin")
    result = invoke("fuse", folder / "in.onnx", "-o", folder / "out.onnx", "--save-as-external")
    assert result.exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["in.onnx", "out.onnx", "out.onnx.data", "w.bin"]
    for name in ("in.onnx", "w.bin"):
        (folder / name).unlink()
    fused = onnx.load(folder / "out.onnx")
    assert [node.op_type for node in fused.graph.node] == ["RMSNorm", "MatMul"]
    onnx.checker.check_model(str(folder / "out.onnx"))
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in fused.graph.initializer}
    np.testing.assert_array_equal(tensors["w"], weights)


def test_allow_precision_gain(tmp_path, build):
    body = "c = Constant <value = float16 {14131}> () " + NORM.replace("h", "x").replace("eps", "c").replace(
        "scale", "g"
    )
    model = build(body, inputs="float16[b,s,8] x, float16[8] g", outputs="float16[b,s,8] y")
    onnx.save(model, tmp_path / "in.onnx")
    result = invoke("fuse", tmp_path / "in.onnx", "-o", tmp_path / "out.onnx", "--explain")
    assert "fused 0 of 1" in result.stdout
    assert "--allow-precision-gain fuses it" in result.stdout
    result = invoke("fuse", tmp_path / "in.onnx", "-o", tmp_path / "out.onnx", "--allow-precision-gain")
    assert "fused 1 of 1" in result.stdout
    assert "1 had statistics in half precision" in result.stdout
