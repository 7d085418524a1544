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
