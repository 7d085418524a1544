"""What `verify` compares: read once, left as it was, and run in the ways that it needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx.external_data_helper import convert_model_to_external_data

from rms_deploy.errors import InputError, RunError
from rms_deploy.onnx_model.file import load_model
from rms_deploy.verification.candidates import Candidate, deployed_run, formula_run, reference_run, truth_run
from rms_deploy.verification.verify import verify

X = {"x": np.array([[0.5, -2.0]], np.float16)}


def proto(body: str = "y = Mul(x, w)", dtype: str = "float16", opset: int = 18) -> onnx.ModelProto:
    text = f"""
        <ir_version: 8, opset_import: ["" : {opset}, "rms_deploy" : 1]>
        g ({dtype}[n,2] x) => ({dtype}[n,2] y) <{dtype}[2] w = {{15360, 16384}}> {{ {body} }}
    """
    return onnx.parser.parse_model(text)  # the bits of 1 and 2 in float16


def matrices() -> onnx.ModelProto:
    text = """<ir_version: 8, opset_import: ["" : 18]> g (float[n,2] x) => (float[n,4] y)
        <float[2,4] w = {1, 2, 3, 4, 5, 6, 7, 8}> { y = MatMul(x, w) }"""
    return onnx.parser.parse_model(text)


def content(model: ir.Model) -> bytes:
    return ir.to_proto(model).SerializeToString(deterministic=True)


@pytest.fixture(params=["file", "proto", "model"])
def forms(request, tmp_path):
    """What makes each form that a model can be given in."""

    def make(model: onnx.ModelProto, name: str) -> Path | onnx.ModelProto | ir.Model:
        if request.param == "file":
            onnx.save(model, tmp_path / f"{name}.onnx")
            return tmp_path / f"{name}.onnx"
        return model if request.param == "proto" else ir.from_proto(model)

    return make


def test_every_form_of_a_model_is_compared_and_left_as_it_was(forms):
    right, wrong = forms(proto(), "a"), forms(proto("z = Mul(x, w) y = Neg(z)"), "b")
    before = [content(x) if isinstance(x, ir.Model) else x for x in (right, wrong)]
    assert verify(right, right).passed
    result = verify(right, wrong)
    assert not result.passed
    assert result.truth == "the reference in float64"
    assert [content(x) if isinstance(x, ir.Model) else x for x in (right, wrong)] == before
    assert result.reference == (str(right) if isinstance(right, Path) else "g")


def test_each_file_is_read_once(tmp_path, monkeypatch):
    """Also where the truth, the formula and the upcast need models of their own: bfloat16 has no kernel."""
    for name in "ab":
        onnx.save(proto(dtype="bfloat16"), tmp_path / f"{name}.onnx")
    read: list[str] = []
    read_bytes = Path.read_bytes

    def counting(path: Path) -> bytes:
        read.append(path.name)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counting)
    result = verify(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert result.reference_run.startswith("upcast to float32")
    assert result.candidate_run.startswith("upcast to float32")
    assert result.formula.startswith("both in float64")
    assert [name for name in read if name in ("a.onnx", "b.onnx")] == ["a.onnx", "b.onnx"]


def test_every_run_leaves_the_model_as_it_was():
    candidate = Candidate.of(proto(dtype="bfloat16"))
    before = content(candidate.model)
    truth, why_not = truth_run(candidate)
    assert truth is not None
    formula, _ = formula_run(candidate, truth, why_not)
    assert formula is not None
    for run in (reference_run(candidate), deployed_run(candidate, library=False), truth, formula):
        assert run.upcast is not None
        run({"x": np.ones((1, 2), np.float32)})
    assert content(candidate.model) == before


def test_external_data_is_read_where_it_lies(tmp_path):
    model = proto()
    model.graph.initializer[0].raw_data = onnx.numpy_helper.to_array(model.graph.initializer[0]).tobytes()
    model.graph.initializer[0].ClearField("int32_data")
    convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    onnx.save(model, tmp_path / "a.onnx")
    for given in (tmp_path / "a.onnx", load_model(tmp_path / "a.onnx")):
        candidate = Candidate.of(given)
        (y,) = deployed_run(candidate, library=False)(X).values()
        np.testing.assert_array_equal(y, [[0.5, -4.0]])
        assert truth_run(candidate)[1] == "the reference in float64"


def test_a_file_in_another_order_is_compared_as_onnxruntime_runs_it(tmp_path):
    model = proto("z = Mul(x, w) y = Neg(z)")
    first, second = model.graph.node
    model.graph.ClearField("node")
    model.graph.node.extend([second, first])
    onnx.save(model, tmp_path / "a.onnx")
    result = verify(tmp_path / "a.onnx", proto("z = Mul(x, w) y = Neg(z)"))
    assert result.passed
    assert result.formula.startswith("both in float64")
    with pytest.raises(InputError, match=r"g: its nodes are not in topological order; call model.graph.sort\(\) first"):
        Candidate.of(ir.from_proto(model))


def test_the_formula_is_not_compared_without_the_truth_in_float64():
    candidate = Candidate.of(proto())
    assert formula_run(candidate, None, "none: the model is too large") == (
        None,
        "not compared: the model is too large",
    )
    reference = reference_run(candidate)
    assert formula_run(candidate, reference, "")[1].startswith("not compared: the reference does not run in float64")


def test_a_model_in_float64_is_compared_as_it_is():
    text = '<ir_version: 8, opset_import: ["" : 18]> g (double[2] x) => (double[2] y) { y = Exp(x) }'
    model = onnx.parser.parse_model(text)
    result = verify(model, model)
    assert result.passed
    assert result.is_complete


def test_too_little_memory_is_named():
    reference = Candidate.of(matrices())
    truth, why = truth_run(reference, memory=100)
    assert truth is None
    assert why == "none: the reference needs 1.2e-07 GiB in float64 for its largest weight, and may take 9.3e-08 GiB"
    assert formula_run(reference, truth, why)[1] == why.replace("none", "not compared")
    truth, why = truth_run(reference)
    assert formula_run(reference, truth, why, memory=100)[1].startswith("not compared: the candidate needs 1.2e-07 GiB")


def test_a_missing_kernel_alone_is_no_reason_to_upcast():
    with pytest.raises(RunError, match="Unknown"):
        reference_run(Candidate.of(proto("y = rms_deploy.Unknown(x)")))


@pytest.mark.parametrize("prepare", [reference_run, lambda candidate: deployed_run(candidate, library=True)])
def test_an_output_that_another_tool_took_names_the_mend(prepare):
    text = """<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]>
        g (float[n,2] x, float[n,2] r) => (float[n,2] y) <float[2] w = {1, 2}> { y = rms_deploy.AddRMSNorm(x, r, w) }"""
    candidate = Candidate.of(onnx.parser.parse_model(text))
    with pytest.raises(
        RunError, match=r"g: node y \(AddRMSNorm\) has lost its Sum to another tool; `rms_deploy.fuse` mends"
    ):
        prepare(candidate)
