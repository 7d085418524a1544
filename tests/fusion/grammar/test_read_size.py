"""n as a model reads it from the shape of x, and what only looks like it."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rms_deploy.fusion.grammar.read_size import read_exponent
from rms_deploy.onnx_model.analysis import Facts

DIM = "s = Shape (x) i = Constant <value = int64 {2}> () g = Gather (s, i)"
BOTH = "s = Shape (x) a = Constant <value_ints = [1]> () b2 = Constant <value_ints = [3]> () t = Slice (s, a, b2)"
ONE = "one = Constant <value = float {1}> ()"
EXPONENTS = {
    "a dim": (f"{DIM} v = Cast <to = 1> (g)", (-1,), 1.0),
    "its root": (f"{DIM} f = Cast <to = 1> (g) v = Sqrt (f)", (-1,), 0.5),
    "its inverse": (f"{DIM} {ONE} f = Cast <to = 1> (g) v = Div (one, f)", (-1,), -1.0),
    "another dim": (f"{DIM.replace('{2}', '{1}')} v = Cast <to = 1> (g)", (-1,), None),
    "rounded to half": (f"{DIM} v = Cast <to = 10> (g)", (-1,), None),
    "a product of two": (f"{BOTH} p = ReduceProd (t) v = Cast <to = 1> (p)", (-2, -1), 1.0),
    "two dims beside each other": (f"{BOTH} v = Cast <to = 1> (t)", (-2, -1), None),
    "two dims, each with itself": (f"{BOTH} m = Mul (t, t) v = Cast <to = 1> (m)", (-2, -1), None),
    "a part of a product": (
        f"{BOTH} z = Constant <value_ints = [0]> () p = ReduceProd (t) g = Gather (p, z) v = Cast <to = 1> (g)",
        (-2,),
        None,
    ),
    "all of it": ("n = Size (x) v = Cast <to = 1> (n)", (-3, -2, -1), 1.0),
}


def value_and_facts(build, body):
    model = ir.from_proto(build(f"{body} y = Exp (x)", inputs="float[b,s,h] x"))
    return {o.name: o for node in model.graph for o in node.outputs}["v"], model.graph.inputs[0], Facts(model)


@pytest.mark.parametrize(("body", "axes", "expected"), EXPONENTS.values(), ids=EXPONENTS)
def test_a_power_of_n(body, axes, expected, build):
    value, x, facts = value_and_facts(build, body)
    assert read_exponent(value, x, axes, facts) == expected


def test_products_of_products_are_read_once(build, monkeypatch):
    doubled = " ".join(f"p{i + 1} = Mul (p{i}, p{i})" for i in range(11))
    body = f"{DIM} p0 = Identity (g) {doubled} v = Cast <to = 1> (p11)"
    value, x, facts = value_and_facts(build, body)
    looks = []
    right = facts.has_shape_of
    monkeypatch.setattr(facts, "has_shape_of", lambda *values: looks.append(values) or right(*values))
    assert read_exponent(value, x, (-1,), facts) is None
    assert len(looks) < 4
