# ruff: noqa: E501 - a graph a line
"""What a gate is read as: its x and z, before their casts and Reshapes, and where it ends."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.grammar.gate import Gate, gate_of
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.nodes import norm_nodes

CORE = "q = Mul (h, h) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (h, r)"
SILU = "s = Sigmoid (z) g = Mul (z, s)"
WIDE = "a = Cast <to = 1> (x) c = Cast <to = 1> (z) s = Sigmoid (c) g = Mul (c, s)"
SHAPES = "split = Constant <value_ints = [0,0,2,4]> () join = Constant <value_ints = [0,0,8]> ()"
TWO = "float[b,s,8] x, float[b,s,8] z"
HALF = "float16[b,s,8] x, float16[b,s,8] z"


@pytest.fixture
def read(build):
    def read(body, **options):
        model = fuse(build(body, **options), gate=False, verify=False).model
        (norm,) = norm_nodes(model)
        return gate_of(norm, Facts(model, thorough=True))

    return read


def names(gate):
    return [gate.x.name, gate.z.name, gate.scale.name, gate.end.name]


def test_in_front(read):
    gate = read(f"{SILU} h = Mul (x, g) {CORE} y = Mul (n, scale)", inputs=TWO)
    assert isinstance(gate, Gate)
    assert (gate.op.name, names(gate)) == ("SiluGateRMSNorm", ["x", "z", "scale", "y"])
    assert (gate.view, gate.back, gate.scale_shape) == (None, None, ())


def test_behind(read):
    gate = read(f"h = Exp (x) {CORE} k = Mul (n, scale) {SILU} y = Mul (k, g)", inputs=TWO)
    assert (gate.op.name, names(gate)) == ("RMSNormSiluGate", ["h", "z", "scale", "y"])


def test_casts_are_a_part_of_it(read):
    gate = read(
        f"{WIDE} h = Mul (a, g) {CORE} k = Cast <to = 10> (n) y = Mul (w, k)",
        inputs=f"{HALF}, float16[8] w",
        outputs="float16[b,s,8] y",
    )
    assert names(gate) == ["x", "z", "w", "y"]
    assert gate.scale_type == ir.DataType.FLOAT16


def test_casts_to_another_type_are_not(read):
    gate = read(f"{WIDE} h = Mul (a, g) {CORE} y = Cast <to = 16> (n)", inputs=HALF, outputs="bfloat16[b,s,8] y")
    assert names(gate)[:2] == ["a", "c"]
    assert gate.end.name == "n"


def test_groups(read):
    gate = read(
        f"{SHAPES} {SILU} p = Mul (x, g) h = Reshape (p, split) {CORE} j = Reshape (n, join) y = Mul (j, scale)",
        inputs=TWO,
    )
    assert (gate.is_grouped, gate.scale_shape) == (True, (2, 4))
    assert (gate.row_shape, gate.shape, gate.end_shape) == (("b", "s", 8), ("b", "s", 2, 4), ("b", "s", 8))


def test_a_group_that_is_a_row(read):
    shapes = SHAPES.replace("2,4", "1,8")
    gate = read(
        f"{shapes} {SILU} p = Mul (x, g) h = Reshape (p, split) {CORE} j = Reshape (n, join) y = Mul (j, scale)",
        inputs=TWO,
    )
    assert not gate.is_grouped


def test_a_size_of_groups_that_follows_from_the_number_of_elements(read):
    """x and z have b and s in common, which no runtime holds equal; the model means one size by each."""
    sizes = "o = Shape (p) i = Constant <value_ints = [0,1]> () d = Gather (o, i) u = Constant <value_ints = [-1,4]> () split = Concat <axis = 0> (d, u)"
    join = "v = Constant <value_ints = [-1]> () join = Concat <axis = 0> (d, v)"
    gate = read(
        f"{SILU} p = Mul (x, g) {sizes} {join} h = Reshape (p, split) {CORE} j = Reshape (n, join) y = Mul (j, scale)",
        inputs=TWO,
    )
    assert isinstance(gate, Gate)
    assert gate.scale_shape == (2, 4)


NONE = {
    "no gate": f"h = Exp (x) {CORE} y = Mul (n, scale)",
    "a product with another tensor": f"h = Mul (x, z) {CORE} y = Mul (n, scale)",
    "a product with the norm": f"h = Exp (x) {CORE} y = Mul (n, n)",
    "an activation of the norm": f"h = Exp (x) {CORE} s = Sigmoid (n) y = Mul (n, s)",
    "HardSwish": f"g = HardSwish (z) h = Mul (x, g) {CORE} y = Mul (n, scale)",
}


@pytest.mark.parametrize("body", NONE.values(), ids=NONE)
def test_none(body, read):
    assert read(body, inputs=TWO) is None


def test_why_not(read):
    reason = read(f"{SILU} h = Mul (x, g) {CORE} y = Mul (n, scale)", inputs="float[b,s,8] x, float[c,s,8] z")
    assert reason == "the gate h stays: x ([b, s, 8]) and z ([c, s, 8]) are not proven to have one shape"
