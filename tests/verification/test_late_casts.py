"""Casts of weights that wait for what they are read with, whatever order ONNX Runtime takes."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.runtime import onnxruntime_session as runtime
from rms_deploy.verification.late_casts import LateCasts

W = np.array([[1, 2], [0, 0.5]], np.float16)
WEIGHTS = {"w": ir.tensor(W, name="w")}
X = np.array([[0.25, -1.0], [3.0, 0.0], [1.0, 2.0]])


def parse(body, *, opset=18):
    header = f'<ir_version: 8, opset_import: ["" : {opset}]> g (double[n,2] x, float16[2,2] w) => (double[n,2] y)'
    return ir.from_proto(onnx.parser.parse_model(f"{header} {{ {body} }}"))


def run(model):
    return runtime.run(runtime.session(model, optimize=False, library=False), {"x": X, "w": W})["y"]


def waited_for(model):
    """For each Cast of a weight: the value of which it reads the shape."""
    found = []
    for node in model.graph:
        late = node.inputs[0].producer() if node.op_type == "Cast" else None
        if late is not None and late.op_type == "Reshape" and late.inputs[0].name == "w":
            none = late.inputs[1].producer().inputs[0].producer()
            found.append(none.inputs[0].producer().inputs[0].name)
    return found


WAIT = {
    "the product": ("a = Exp(x) c = Cast<to=11>(w) y = MatMul(a, c)", ["a"]),
    "Cast in front": ("c = Cast<to=11>(w) a = Exp(x) y = MatMul(a, c)", ["a"]),
    "Transpose": ("c = Cast<to=11>(w) t = Transpose(c) a = Exp(x) y = MatMul(a, t)", ["a"]),
    "constant": (
        "c = Cast<to=11>(w) two = Constant<value = double {2}>() d = Mul(c, two) a = Exp(x) y = MatMul(a, d)",
        ["a"],
    ),
    "two Casts": ("a = Exp(x) c = Cast<to=11>(w) b = MatMul(a, c) d = Cast<to=11>(w) y = MatMul(b, d)", ["a", "b"]),
    "two readers": ("c = Cast<to=11>(w) t = Transpose(c) a = Exp(x) b = MatMul(a, t) y = MatMul(b, t)", ["a"]),
}


@pytest.mark.parametrize("case", WAIT)
def test_a_cast_waits(case):
    body, values = WAIT[case]
    model, before = parse(body), run(parse(body))
    assert LateCasts(WEIGHTS)(model).modified
    assert waited_for(model) == values
    np.testing.assert_array_equal(run(model), before)
    assert not LateCasts(WEIGHTS)(model).modified, "idempotent"


STAY = {
    "reads an input": ("c = Cast<to=11>(w) y = MatMul(x, c)", 18),
    "read by none": ("c = Cast<to=11>(w) y = Exp(x)", 18),
    "in a body": (
        """yes = Constant<value = bool {1}>() a = Exp(x)
        y = If (yes) <then_branch = p () => (double[n,2] t) { c = Cast<to=11>(w) t = MatMul(a, c) },
                      else_branch = q () => (double[n,2] e) { e = Neg(a) }>""",
        18,
    ),
    "before a sequence": (
        """a = Exp(x) s = SequenceConstruct(a) c = Cast<to=11>(w) t = SequenceInsert(s, c)
        y = ConcatFromSequence<axis=0>(t)""",
        18,
    ),
    "an old opset": ("a = Exp(x) c = Cast<to=11>(w) y = MatMul(a, c)", 9),
}


@pytest.mark.parametrize("case", STAY)
def test_a_cast_stays(case):
    body, opset = STAY[case]
    model, before = parse(body, opset=opset), run(parse(body, opset=opset))
    assert not LateCasts(WEIGHTS)(model).modified
    assert waited_for(model) == []
    np.testing.assert_array_equal(run(model), before)


def test_another_input_is_no_weight():
    model = parse("a = Exp(x) c = Cast<to=11>(w) y = MatMul(a, c)")
    assert not LateCasts({})(model).modified
