"""Values of one element type."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.same_type import same_type


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("u = com.microsoft.Unknown (x) v = Add (u, eps)", ir.DataType.FLOAT),
        ("u = com.microsoft.Unknown (x) a = Reshape (u, last) v = Mul (a, eps)", ir.DataType.FLOAT),
        ("u = com.microsoft.Unknown (x) v = Gather (u, last)", None),  # an index has a type of its own
        ("u = com.microsoft.Unknown (x) v = Cast <to = 10> (u)", None),
    ],
)
def test_the_type_of_an_operand(body, expected, build):
    model = ir.from_proto(build(f"{body} y = Neg (x)"))
    u = model.graph[0].outputs[0]
    types = {"eps": ir.DataType.FLOAT, "last": ir.DataType.INT64}
    relatives, dtype = same_type(u, lambda value: types.get(value.name))
    assert dtype == expected
    assert relatives[0] is u


def test_a_type_is_looked_for_once_among_all_that_share_it(build):
    """A value that many read: each of them would ask all others."""
    count = 400
    body = " ".join(f"v{i} = Mul (u, u) q{i} = Mul (v{i}, v{i}) c{i} = Cast <to = 7> (q{i})" for i in range(count))
    model = ir.from_proto(build(f"u = com.microsoft.Unknown (x) {body} y = Neg (x)"))
    facts, looks = Facts(model), []
    right = facts._own_dtype
    facts._own_dtype = lambda value: looks.append(value) or right(value)
    assert {facts.dtype(node.outputs[0]) for node in model.graph if node.op_type == "Mul"} == {None}
    assert len(looks) < 12 * count


def test_a_type_that_was_found_is_found_at_once_beside_it(build):
    count = 400
    body = " ".join(f"v{i} = Add (u, u) q{i} = Mul (v{i}, v{i})" for i in range(count))
    sums = " ".join(f"s{i + 1} = Add (s{i}, q{i})" for i in range(count))
    model = ir.from_proto(build(f"u = com.microsoft.Unknown (x) {body} s0 = Identity (eps) {sums} y = Neg (x)"))
    facts, looks = Facts(model), []
    right = facts._own_dtype
    facts._own_dtype = lambda value: looks.append(value) or right(value)
    assert {facts.dtype(node.outputs[0]) for node in model.graph if node.op_type == "Mul"} == {ir.DataType.FLOAT}
    assert len(looks) < 20 * count
