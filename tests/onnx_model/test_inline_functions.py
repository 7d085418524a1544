"""Functions are inlined without two values of one name."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest

from rms_deploy.errors import InputError
from rms_deploy.onnx_model.inline_functions import inline_functions

HEADER = '<ir_version: 10, opset_import: ["" : 18, "local" : 1]>'
TWICE = f"""{HEADER}
    g (float[8] x, bool c) => (float[8] y) {{
        a = local.F (x) b = local.F (a)
        y = If (c) <then_branch = t () => (float[8] ty) {{ m_2 = Neg (b) ty = Exp (m_2) }},
                    else_branch = e () => (float[8] ey) {{ m = Exp (b) ey = Neg (m) }}>
    }}
    <domain: "local", opset_import: ["" : 18]> F (fx) => (fy) {{ m = Neg (fx) fy = Mul (m, m) }}
"""
LOOP = f"""{HEADER}
    g (float[8] x) => (float[8] y) {{ i = Neg (x) y = local.F (i) }}
    <domain: "local", opset_import: ["" : 18]> F (fx) => (fy) {{
        n = Constant <value_int = 2> ()
        fy = Loop (n, , fx) <body = b (int64 i, bool k, float[8] x) => (bool going, float[8] z) {{
            going = Identity (k) z = Add (x, x) }}>
    }}
"""


def run(proto: onnx.ModelProto) -> np.ndarray:
    feeds = {value.name: np.arange(8, dtype=np.float32) / 8 for value in proto.graph.input if value.name == "x"}
    feeds |= {value.name: np.array(True) for value in proto.graph.input if value.name == "c"}
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


@pytest.mark.parametrize("text", [TWICE, LOOP])
def test_names_that_come_later_and_inputs_of_bodies_are_no_collision(text: str) -> None:
    before = onnx.parser.parse_model(text)
    model = ir.from_proto(before)
    assert inline_functions(model)
    assert not model.functions
    after = ir.to_proto(model)
    onnx.checker.check_model(after, full_check=True)
    np.testing.assert_array_equal(run(after), run(before))


def test_what_is_said_of_a_calls_output_stays() -> None:
    model = ir.from_proto(onnx.parser.parse_model(TWICE))
    model.graph[0].outputs[0].doc_string = "said"
    model.graph[0].outputs[0].metadata_props["key"] = "value"
    model.graph[0].outputs[0].meta["quant_parameter_tensor_names"] = {"SCALE_TENSOR": "s"}
    inline_functions(model)
    (value,) = (value for node in model.graph for value in node.outputs if value.name == "a")
    assert (value.doc_string, value.metadata_props) == ("said", {"key": "value"})
    assert ir.to_proto(model).graph.quantization_annotation[0].tensor_name == "a"


def test_only_some() -> None:
    model = ir.from_proto(onnx.parser.parse_model(TWICE))
    assert not inline_functions(model, lambda function: function.name != "F")
    assert model.functions


def test_a_function_that_calls_itself_is_one_line() -> None:
    model = ir.from_proto(onnx.parser.parse_model(TWICE.replace("m = Neg (fx)", "m = local.F (fx)")))
    with pytest.raises(InputError, match=r"a local function cannot be inlined: .*[Cc]ycl") as error:
        inline_functions(model)
    assert "\n" not in str(error.value)
