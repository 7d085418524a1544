"""Norms that are primitives as we write them stay what they are."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.passes.decomposed_form import is_decomposed_form
from rms_deploy.ops.forms import NormForm

OURS = (
    "t = Constant <value_float = 2.0> () q = Pow (x, t) a = Constant <value_ints = [-1]> () m = ReduceMean (q, a) "
    "c = Constant <value_float = 1e-5> () e = Add (m, c) r = Sqrt (e) n = Div (x, r) y = Mul (n, scale)"
)
OTHERS = {
    "an initialiser": OURS.replace("c = Constant <value_float = 1e-5> ()", "").replace("(m, c)", "(m, eps)"),
    "the epsilon first": OURS.replace("(m, c)", "(c, m)"),
    "a reciprocal": OURS.replace("n = Div (x, r)", "i = Reciprocal (r) n = Mul (x, i)"),
    "no epsilon": OURS.replace("e = Add (m, c)", "").replace("Sqrt (e)", "Sqrt (m)"),
}


def decomposed(model):
    return fuse(model, target=NormForm.DECOMPOSED)


@pytest.mark.parametrize(
    "body",
    [
        OURS,
        OURS.replace("Pow (x, t)", "Mul (x, x)"),
        OURS.replace("<value_float = 1e-5>", "<value = float {1e-5}>").replace(
            "<value_float = 2.0>", "<value = float {2}>"
        ),
    ],
)
def test_ours_stays_and_was_in_the_form_before(body, build):
    model = build(body)
    result = decomposed(model)
    assert not result.norms
    (norm,) = result.fused_before
    assert (norm.form, norm.note, norm.kind) == (NormForm.DECOMPOSED, "", "RMSNorm")
    assert [node.op_type for node in result.model.graph] == [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("body", OTHERS.values(), ids=OTHERS)
def test_another_spelling_is_written_anew(body, build):
    result = decomposed(build(body))
    assert len(result.norms) == 1
    again = decomposed(ir.to_proto(result.model))
    assert not again.norms
    assert len(again.fused_before) == 1


def test_every_body_that_we_write_is_known_again(spelled):
    once = ir.to_proto(decomposed(spelled).model)
    assert not decomposed(once).norms
    assert ir.to_proto(decomposed(once).model) == once


def test_other_targets_take_it(build):
    assert len(fuse(build(OURS)).norms) == 1
    assert is_decomposed_form.__doc__
