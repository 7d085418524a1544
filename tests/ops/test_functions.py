"""The functions of a model: a body for each of our ops that it uses, and no other."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from rms_deploy.ops.contract import DOMAIN, RMS_NORM
from rms_deploy.ops.functions import attach_functions

TEXT = """<ir_version: 7, opset_import: ["": 20, "rms_deploy": 1, "acme": 1]>
g (float[2,8] x, float[8] scale) => (float[2,8] z) {
    y = rms_deploy.RMSNorm <epsilon = 0.5> (x, scale)
    z = acme.Twice (y)
}
<domain: "acme", opset_import: ["": 20]> Twice (a) => (b) { b = Add (a, a) }
"""
KEY = (DOMAIN, "RMSNorm", "")


@pytest.fixture
def model() -> ir.Model:
    model = ir.from_onnx_text(TEXT)
    attach_functions(model)
    return model


def test_our_bodies_come_before_those_of_others_that_may_call_them(model) -> None:
    assert list(model.functions) == [KEY, ("acme", "Twice", "")]
    assert (model.ir_version, model.opset_imports[DOMAIN]) == (8, 1)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_unused_bodies_are_taken_away(model) -> None:
    norm = model.graph[0]
    norm.outputs[0].replace_all_uses_with(model.graph.inputs[0])
    model.graph.remove(norm)
    attach_functions(model)
    assert list(model.functions) == [("acme", "Twice", "")]
    assert DOMAIN not in model.opset_imports


def test_a_second_time_changes_nothing(model) -> None:
    before = ir.to_proto(model).SerializeToString()
    attach_functions(model)
    assert ir.to_proto(model).SerializeToString() == before


def test_nodes_carry_every_attribute(model) -> None:
    """onnx's inliner and evaluator, for two, do not fill in defaults of a function's attributes."""
    attributes = {name: attribute.value for name, attribute in model.graph[0].attributes.items()}
    assert attributes == {**RMS_NORM.defaults(), "epsilon": 0.5}
