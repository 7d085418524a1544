"""Shapes that torch's legacy exporter computes, which onnx alone gives up."""

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.analysis import Facts

CONSTANTS = (
    "zero = Constant <value_ints = [0]> () one = Constant <value_ints = [1]> () three = Constant <value_ints = [3]> () "
    "i1 = Constant <value_int = 1> () i2 = Constant <value_int = 2> () h = Shape (x) "
)
BODIES = {
    "Slice to a computed end": (
        "g = Gather (h, three) k = Div (g, two) y = Slice (x, zero, k, three)",
        ("b", 2, "s", None),
    ),
    "Slice of two axes": (
        "axes = Constant <value_ints = [1, 3]> () g = Gather (h, axes) k = Div (g, twos) "
        "zeros = Constant <value_ints = [0, 0]> () y = Slice (x, zeros, k, axes)",
        ("b", None, "s", None),
    ),
    "Tile": ("t = Constant <value_ints = [1, 3, 1, 2]> () y = Tile (x, t)", ("b", 6, "s", 16)),
    "Range to the length": (
        "n = Gather (h, i2) f = Cast <to = 1> (n) o = Constant <value = float {0}> () "
        "d = Constant <value = float {1}> () y = Range (o, f, d)",
        ("s",),
    ),
    "Range of integers": (
        "n = Gather (h, i2) o = Constant <value_int = 0> () r = Range (o, n, i1) y = Cast <to = 1> (r)",
        ("s",),
    ),
}
OTHERS = {
    "Range from 1": "n = Gather (h, i2) r = Range (i1, n, i1) y = Cast <to = 1> (r)",
    "Range in float16": (
        "n = Gather (h, i2) f = Cast <to = 10> (n) o = Constant <value = float16 {0}> () "
        "d = Constant <value = float16 {15360}> () r = Range (o, f, d) y = Cast <to = 1> (r)"
    ),
}


def model(body):
    text = f"two = Constant <value_ints = [2]> () twos = Constant <value_ints = [2, 2]> () {CONSTANTS} {body}"
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> g (float[b,2,s,8] x) => (float[?] y) {{ {text} }}'
    )
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    return proto


@pytest.mark.parametrize(("body", "expected"), BODIES.values(), ids=BODIES)
def test_the_shape_is_told_and_right(body, expected):
    proto = model(body)
    ours = ir.from_proto(proto)
    shape = Facts(ours).shape(ours.graph.outputs[0])
    assert [dim if isinstance(dim, int) or dim in ("b", "s") else None for dim in shape] == list(expected)
    (y,) = onnx.reference.ReferenceEvaluator(proto).run(None, {"x": np.zeros((3, 2, 5, 8), np.float32)})
    sizes = {"b": 3, "s": 5}
    assert all(dim is None or sizes.get(dim, dim) == size for dim, size in zip(expected, y.shape, strict=True))


@pytest.mark.parametrize("body", OTHERS.values(), ids=OTHERS)
def test_other_ranges_are_of_unknown_length(body):
    ours = ir.from_proto(model(body))
    assert Facts(ours).shape(ours.graph.outputs[0]) != ("s",)
