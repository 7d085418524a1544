"""What a Reshape leaves open follows from the number of elements, where symbols cancel."""

import onnx
import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.analysis import Facts

CONSTANTS = "h = Shape (x) zero = Constant <value_ints = [0]> () two = Constant <value_ints = [2]> () "
CASES = {
    "heads": ("t = Constant <value_ints = [0, 0, -1, 16]> () y = Reshape (x, t)", ("b", "s", 4, 16)),
    "flat": (
        "t = Constant <value_ints = [0, 0, 4, 16]> () k = Reshape (x, t) f = Constant <value_ints = [0, 0, -1]> () "
        "y = Reshape (k, f)",
        ("b", "s", 64),
    ),
    "one after another": (
        "t = Constant <value_ints = [0, 0, -1, 16]> () k = Reshape (x, t) j = Transpose <perm = [0,2,1,3]> (k) "
        "i = Transpose <perm = [0,2,1,3]> (j) f = Constant <value_ints = [0, 0, -1]> () y = Reshape (i, f)",
        ("b", "s", 64),
    ),
}
OPEN = {
    "rows": "t = Constant <value_ints = [-1, 64]> () y = Reshape (x, t)",
    "a size that does not divide": "t = Constant <value_ints = [0, 0, -1, 7]> () y = Reshape (x, t)",
    "another order": "t = Constant <value_ints = [0, 32, -1]> () y = Reshape (x, t)",
}  # fmt: skip


def shape_of(body, *inputs):
    ends = ", ".join(("float[b,s,64] x", *inputs))
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> g ({ends}) => (float[?] y) {{ {CONSTANTS} {body} }}'
    )
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    model = ir.from_proto(proto)
    return Facts(model, thorough=True).shape(model.graph.outputs[0])


@pytest.mark.parametrize(("body", "expected"), CASES.values(), ids=CASES)
def test_the_size_is_told(body, expected):
    assert shape_of(body) == expected


@pytest.mark.parametrize("body", OPEN.values(), ids=OPEN)
def test_no_size_is_made_up(body):
    shape = shape_of(body)
    assert shape is None or [dim for dim in shape if not isinstance(dim, int) and dim not in ("b", "s")]


def test_a_symbol_of_two_inputs_does_not_cancel():
    """x [b, s, 64] as [b of z, s, -1]: no runtime makes sure that b is one size at both."""
    body = "u = Shape (z) one = Constant <value_ints = [1]> () f = Gather (u, zero) g = Gather (h, one) \
        e = Constant <value_ints = [-1]> () t = Concat <axis = 0> (f, g, e) r = Reshape (x, t) y = Exp (r)"
    assert shape_of(body, "float[k,3] z")[-1] != 64
    assert shape_of(body.replace("Gather (u", "Gather (h"), "float[k,3] z") == ("b", "s", 64)
    assert shape_of(body, "float[b,3] z")[-1] != 64
