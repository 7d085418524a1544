"""Whether onnx may follow the elements of vectors."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.data_propagation import may_propagate

DOUBLED = " ".join(f"v{i + 1} = Concat <axis = 0> (v{i}, u{i}) u{i + 1} = Identity (v{i + 1})" for i in range(21))
BODIES = {
    "short": ("v = Concat <axis = 0> (x, x) y = Exp (v)", True),
    "doubled again and again": (f"v0 = Identity (x) u0 = Identity (x) {DOUBLED} y = Exp (v21)", False),
    "expanded": ("a = Constant <value = int64[1] {99999999}> () y = Expand (x, a)", False),
    "expanded a little": ("a = Constant <value = int64[1] {8}> () y = Expand (x, a)", True),
    "made": ("a = Constant <value = int64[2] {65536, 65536}> () y = ConstantOfShape (a)", False),
    "sliced to the end": ("a = Constant <value = int64[1] {9223372036854775807}> () y = Slice (x, last, a)", True),
}


@pytest.mark.parametrize(("body", "expected"), BODIES.values(), ids=BODIES)
def test_data_are_propagated_where_vectors_stay_short(body, expected, build):
    assert may_propagate(ir.from_proto(build(body, inputs="float[8] x")).graph) is expected
