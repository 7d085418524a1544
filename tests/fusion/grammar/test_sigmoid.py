"""silu is found in its spellings, and its z is what both operands are."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rms_deploy.fusion.grammar.sigmoid import silu_of
from rms_deploy.onnx_model.analysis import Facts

FOUND = {
    "Sigmoid": ("s = Sigmoid (x) y = Mul (x, s)", 18),
    "the other way round": ("s = Sigmoid (x) y = Mul (s, x)", 18),
    "behind Identity": ("s = Sigmoid (x) g = Mul (x, s) y = Identity (g)", 18),
    "of one cast twice": ("a = Cast <to = 1> (x) c = Cast <to = 1> (x) s = Sigmoid (a) y = Mul (c, s)", 18),
    "Swish": ("y = Swish (x)", 24),
    "exp": ("n = Neg (x) e = Exp (n) a = Add (one, e) y = Div (x, a)", 18),
    "the inverse of exp": ("n = Neg (x) e = Exp (n) a = Add (e, one) s = Div (one, a) y = Mul (s, x)", 18),
    "the reciprocal of exp": ("n = Neg (x) e = Exp (n) a = Add (e, one) s = Reciprocal (a) y = Mul (x, s)", 18),
}
OTHERS = {
    "an input": ("y = Identity (x)", 18),
    "HardSwish": ("y = HardSwish (x)", 18),
    "Sigmoid alone": ("y = Sigmoid (x)", 18),
    "a sigmoid divided": ("s = Sigmoid (x) y = Div (x, s)", 18),
    "another alpha": ("y = Swish <alpha = 2.0> (x)", 24),
    "a sum with two": ("n = Neg (x) e = Exp (n) a = Add (e, two) y = Div (x, a)", 18),
    "no Neg": ("e = Exp (x) a = Add (e, one) y = Div (x, a)", 18),
    "half of the inverse": ("n = Neg (x) e = Exp (n) a = Add (e, one) s = Div (half, a) y = Mul (s, x)", 18),
    "of a tensor of one that grows": ("n = Neg (x) e = Exp (n) a = Add (e, eps111) y = Div (x, a)", 18),
    "Sigmoid of another": ("t = Tanh (x) s = Sigmoid (t) y = Mul (x, s)", 18),
}


def found(body, opset, build):
    model = ir.from_proto(build(body, inputs="float[b,8] x", outputs="float[b,8] y", opset=opset))
    facts = Facts(model)
    z = silu_of(model.graph.outputs[0], facts)
    return None if z is None else facts.origin(z).name


@pytest.mark.parametrize(("body", "opset"), FOUND.values(), ids=FOUND)
def test_spellings(body, opset, build):
    assert found(body, opset, build) == "x"


@pytest.mark.parametrize(("body", "opset"), OTHERS.values(), ids=OTHERS)
def test_others(body, opset, build):
    assert found(body, opset, build) is None


def test_no_value():
    assert silu_of(None, Facts(ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 18}), ir_version=8))) is None
