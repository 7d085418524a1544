"""What a model holds beside its norms: it is there afterwards, or nothing is written."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from rms_deploy.errors import OutputError
from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.unfuse import unfuse
from rms_deploy.ops.forms import NormForm

NORM = "q = Mul (t, t) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (t, r) y = Mul (n, scale)"


@pytest.mark.parametrize("target", NormForm)
def test_a_file_without_norms_is_copied_byte_for_byte(target, build, tmp_path):
    model = build("y = Exp (x)")
    model.training_info.add().algorithm.name = "kept"
    path, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    path.write_bytes(model.SerializeToString() + b"\x12\x00")  # an empty field, as no library writes it
    for functions in (True, False):
        fuse(path, out, target=target, functions=functions)
        assert out.read_bytes() == path.read_bytes()
    unfuse(path, out)
    assert out.read_bytes() == path.read_bytes()


def test_a_proto_without_norms_too(build, tmp_path):
    model = build("y = Exp (x)")
    fuse(model, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == model.SerializeToString()


@pytest.mark.parametrize("target", NormForm)
@pytest.mark.parametrize("opset", [18, 23])
def test_what_is_said_beside_the_graph(target, opset, build, tmp_path):
    model = build(f"t = Add (x, x) {NORM} u = Neg (t)", outputs="float[b,s,8] y, float[b,s,8] u", opset=opset)
    model.ir_version = 10
    for name in ("x", "y", "t", "scale"):
        model.graph.quantization_annotation.add(tensor_name=name).quant_parameter_tensor_names.add(key="S", value=name)
    model.graph.input[0].doc_string, model.graph.input[0].type.denotation = "an input", "TENSOR"
    model.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    model.graph.output[0].doc_string = "an output"
    model.graph.metadata_props.add(key="graph", value="1")
    model.graph.node[-1].metadata_props.add(key="node", value="2")
    model.training_info.add().update_binding.add(key="scale", value="new")
    onnx.save(model, tmp_path / "model.onnx")
    assert fuse(tmp_path / "model.onnx", tmp_path / "out.onnx", target=target).norms
    out = onnx.load(tmp_path / "out.onnx")
    assert out.graph.input == model.graph.input
    assert [value.doc_string for value in out.graph.output] == ["an output", ""]
    assert out.graph.metadata_props == model.graph.metadata_props
    assert out.graph.node[-1].metadata_props == model.graph.node[-1].metadata_props
    assert out.training_info == model.training_info
    assert {annotation.tensor_name for annotation in out.graph.quantization_annotation} == {"x", "y", "t", "scale"}


def test_training_info_of_what_only_a_norm_read_is_refused(build, tmp_path):
    model = build(f"t = Exp (x) {NORM}")
    model.training_info.add().update_binding.add(key="eps", value="new")
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(OutputError, match="sets eps, which is no initialiser any more"):
        fuse(tmp_path / "model.onnx", tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_norms_behind_one_that_hides_the_shape_are_fused_in_the_same_run(build):
    """onnx infers no rank of what is reduced over axes that an Identity gives; behind a fused norm it does."""
    first = "k = Identity (last) o = Mul (x, x) p = ReduceMean (o, k) f = Add (p, eps) i = Sqrt (f) h = Div (x, i)"
    result = fuse(build(f"{first} t = Add (h, x) {NORM}", inputs="float[b,s,8] x"))
    assert sorted(norm.kind for norm in result.norms) == ["AddRMSNorm", "RMSNorm"]
    assert not fuse(ir.to_proto(result.model)).norms


def test_a_function_of_our_domain_that_is_no_op_of_ours_stays(build):
    model = build(f"t = rms_deploy.Other (x) {NORM}")
    model.opset_import.add(domain="rms_deploy", version=1)
    function = onnx.helper.make_function(
        "rms_deploy", "Other", ["a"], ["c"], [onnx.helper.make_node("Neg", ["a"], ["c"])], model.opset_import[:1]
    )
    model.functions.append(function)
    for target in NormForm:
        fused = fuse(model, target=target, verify=False).model
        assert ("rms_deploy", "Other", "") in fused.functions or target is NormForm.STANDARD, target
