"""The tensor behind a value: an initialiser, or a Constant in each of its spellings."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.constant_tensor import constant_tensor


def outputs(body: str) -> list[ir.Value]:
    text = (
        f'<ir_version: 8, opset_import: ["" : 18]> g (float[2] x) => (float[2] y) <float[2] w = {{1, 2}}> {{ {body} }}'
    )
    model = ir.from_proto(onnx.parser.parse_model(text))
    return [value for node in model.graph for value in (*node.inputs, *node.outputs) if value is not None]


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("value = float[2] {3, 4}", np.float32([3, 4])),
        ("value_float = 3.0", np.float32(3)),
        ("value_floats = [3.0, 4.0]", np.float32([3, 4])),
        ("value_int = 3", np.int64(3)),
        ("value_ints = [3, 4]", np.int64([3, 4])),
    ],
)
def test_a_constant(attribute: str, expected: np.ndarray) -> None:
    value = outputs(f"c = Constant <{attribute}> () y = Add (x, x)")[0]
    tensor = constant_tensor(value)
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), expected, strict=True)


def test_an_initialiser() -> None:
    tensor = constant_tensor(outputs("y = Add (x, w)")[1])
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), np.float32([1, 2]))


def test_what_has_none() -> None:
    x, _, y = outputs("y = Add (x, x)")
    assert constant_tensor(x) is None
    assert constant_tensor(y) is None
    assert constant_tensor(outputs('c = Constant <value_string = "a"> () y = Add (x, x)')[0]) is None
