"""Two shapes that are known to differ are meant so; of two that may be one, it is said what is not known."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rms_deploy.fusion.one_shape import why_not_one_shape
from rms_deploy.onnx_model.analysis import Facts

BROADCAST = [("b,s,8", "8"), ("b,s,8", "b,1,8"), ("1,8", "b,8"), ("3,8", "4,8"), ("b,8", "b,1")]
UNPROVEN = [("b,s,8", "c,s,8"), ("b,8", "3,8"), ("b,s", "b,8")]


def why_not(one, other, build):
    model = ir.from_proto(
        build("y = Identity (x)", inputs=f"float[{one}] x, float[{other}] z", outputs=f"float[{one}] y")
    )
    x, z = model.graph.inputs
    return why_not_one_shape(x, z, Facts(model))


@pytest.mark.parametrize(("one", "other"), BROADCAST)
def test_a_broadcast_needs_no_reason(one, other, build):
    assert why_not(one, other, build) is None


@pytest.mark.parametrize(("one", "other"), UNPROVEN)
def test_what_is_not_proven(one, other, build):
    x, z = (text.replace(",", ", ") for text in (one, other))
    assert why_not(one, other, build) == f"x ([{x}]) and z ([{z}]) are not proven to have one shape"


def test_an_unknown_rank(build):
    model = ir.from_proto(
        build("h = Reshape (x, z) y = Identity (x)", inputs="float[b,8] x, int64[n] z", outputs="float[b,8] y")
    )
    x, h = model.graph.inputs[0], model.graph[0].outputs[0]
    assert (
        why_not_one_shape(x, h, Facts(model)) == "x ([b, 8]) and h (of unknown shape) are not proven to have one shape"
    )
