"""Another opset, the same model; weights are not copied."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.errors import InputError
from rms_deploy.onnx_model.convert_opset import convert_opset
from rms_deploy.runtime import onnxruntime_session as runtime

WEIGHTS = np.arange(512, dtype=np.float32)  # 2 KiB, more than goes through the converter


def model(body: str = "m = ReduceMean <axes = [-1]> (z)") -> ir.Model:
    text = f"""
        <ir_version: 8, opset_import: ["" : 13, "acme" : 1]>
        g (float[2,512] x) => (float[2,1] y) <float[1] s = {{2}}> {{
            z = acme.Scale (x, w) {body} y = Mul (m, s)
        }}
        <domain: "acme", opset_import: ["" : 13]> Scale (a, b) => (c) {{ c = Mul (a, b) }}
    """
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(WEIGHTS, "w"))
    return ir.from_proto(proto)


def test_the_model_computes_the_same_and_shares_its_weights() -> None:
    before = model()
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 512)).astype(np.float32)}
    expected = runtime.run(runtime.session(ir.to_proto(before), library=False), feeds)["y"]
    weights = before.graph.initializers["w"].const_value
    after = convert_opset(before, 18)
    assert after.opset_imports[""] == 18
    assert not after.functions, "the converter drops functions, so they are inlined"
    assert after.graph.initializers["w"].const_value is weights
    assert [value.name for value in after.graph.inputs] == ["x"]
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    np.testing.assert_array_equal(runtime.run(runtime.session(ir.to_proto(after), library=False), feeds)["y"], expected)


def test_a_newer_model_stays_what_it_is() -> None:
    given = model()
    assert convert_opset(given, 13) is given
    assert convert_opset(given, 11) is given
    assert given.functions


def test_what_the_converter_refuses_is_one_line() -> None:
    wrong = model('m = Upsample <mode = "nearest"> (z, s)')
    with pytest.raises(
        InputError, match=r"onnx cannot convert the model from opset 13 to 18: .*; export it with"
    ) as error:
        convert_opset(wrong, 18)
    assert "\n" not in str(error.value)


def test_what_the_converter_drops_stays() -> None:
    before = model()
    before.graph.inputs[0].type = ir.TensorType(ir.DataType.FLOAT, denotation="TENSOR")
    before.graph.inputs[0].doc_string = "an input"
    before.graph.doc_string, before.doc_string, before.producer_name = "a graph", "a model", "maker"
    before.metadata_props["author"], before.graph.metadata_props["graph"] = "a", "1"
    before.graph[-1].metadata_props["node"] = "2"
    proto = ir.to_proto(convert_opset(before, 18))
    assert proto.graph.input[0].type.denotation == "TENSOR"
    assert proto.graph.input[0].doc_string == "an input"
    assert (proto.graph.doc_string, proto.doc_string, proto.producer_name) == ("a graph", "a model", "maker")
    assert proto.metadata_props[0].value == "a"
    assert proto.graph.metadata_props[0].value == "1"
    assert proto.graph.node[-1].metadata_props[0].value == "2"


def test_no_file_is_read_from_the_working_directory(tmp_path, monkeypatch) -> None:
    """The tensor of a function's Constant, which the converter would look for where the process runs."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "k.bin").write_bytes(np.float32([2]).tobytes())
    (tmp_path / "k.bin").write_bytes(np.float32([666]).tobytes())
    monkeypatch.chdir(tmp_path)
    before = model()
    tensor = ir.ExternalTensor(
        "k.bin", 0, 4, ir.DataType.FLOAT, shape=ir.Shape([1]), name="k", base_dir=tmp_path / "model"
    )
    (function,) = before.functions.values()
    constant = ir.node("Constant", [], {"value": ir.AttrTensor("value", tensor)})
    function.graph.insert_before(function.graph[0], constant)
    function.graph[1].replace_input_with(1, constant.outputs[0])
    after = convert_opset(before, 18)
    values = [node.attributes["value"].as_tensor() for node in after.graph if node.op_type == "Constant"]
    assert 2 in [float(value.numpy().reshape(-1)[0]) for value in values]
    assert not any(isinstance(value, ir.ExternalTensor) for value in values)


def test_values_that_the_converter_makes_are_called_like_no_other() -> None:
    """It calls them _v_1 and so on, as others may."""
    names = [f"_v_{number}" for number in range(1, 40)]
    chain = " ".join(f"{new} = Neg ({old})" for old, new in zip(["z", *names], names, strict=False))
    after = ir.to_proto(convert_opset(model(f"{chain} m = ReduceMean <axes = [-1]> ({names[-1]})"), 18))
    onnx.checker.check_model(after, full_check=True)
    made = [name for node in after.graph.node for name in node.output]
    assert len(set(made)) == len(made)
