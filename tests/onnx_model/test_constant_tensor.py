"""The tensor of an initialiser, or of a Constant in each of its spellings."""

from __future__ import annotations

import numpy as np
import onnx.helper as oh
import onnx.numpy_helper as nh
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.constant_tensor import constant_tensor


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("value_float", 0.5, np.float32(0.5)),
        ("value_floats", [0.5, 1.5], np.float32([0.5, 1.5])),
        ("value_int", 3, np.int64(3)),
        ("value_ints", [3, 4], np.int64([3, 4])),
        ("value", nh.from_array(np.float16([1, 2])), np.float16([1, 2])),
    ],
)
def test_a_constant(name, given, expected):
    node = ir.serde.deserialize_node(oh.make_node("Constant", [], ["c"], **{name: given}))
    found = constant_tensor(node.outputs[0]).numpy()
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_what_holds_no_tensor():
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { t = Constant <value_string = "a"> () y = Add (x, w) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    text_node, add = model.graph
    x, w = add.inputs
    assert constant_tensor(text_node.outputs[0]) is None
    assert constant_tensor(add.outputs[0]) is None
    assert constant_tensor(x) is None
    np.testing.assert_array_equal(constant_tensor(w).numpy(), [1, 2])
