"""While the norms are lowered, the shapes on their values are the proven ones; then what the file says again."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.passes.proven_shapes import proven_shapes
from rms_deploy.onnx_model.analysis import Facts

NORM = "y = rms_deploy.RMSNorm <axes = [-1]> (h, scale)"


@pytest.fixture
def stale(build):
    """A norm of which the file says other shapes of X and Y than they have, and the norm."""
    model = build(f"h = Exp (x) {NORM}", outputs="float[7] y")
    model.opset_import.add(domain="rms_deploy", version=1)
    made = ir.from_proto(model)
    made.graph[0].outputs[0].shape = ir.Shape(["b", "s", 9])
    return made, made.graph[1]


def test_what_is_not_proven_gives_way_for_a_while(stale):
    model, node = stale
    with proven_shapes(model, Facts(model)):
        assert node.inputs[0].shape == ["b", "s", 8]
        assert node.outputs[0].shape == ["b", "s", 8]
        assert node.inputs[1].shape == [8]
    assert node.inputs[0].shape == ["b", "s", 9]
    assert node.outputs[0].shape == [7]


def test_a_value_that_takes_the_name_takes_what_the_file_says(stale):
    model, node = stale
    with proven_shapes(model, Facts(model)):
        made = ir.node("Neg", [node.inputs[0]])
        made.outputs[0].name, made.outputs[0].shape = "y", node.outputs[0].shape
        ir.convenience.replace_nodes_and_values(model.graph, node, [node], [made], node.outputs, made.outputs)
    assert model.graph.outputs[0].shape == [7]


def test_names_of_dims_stay_where_the_numbers_are_proven(build):
    model = build(f"h = Exp (x) {NORM}", outputs="float[batch,length,8] y")
    model.opset_import.add(domain="rms_deploy", version=1)
    made = ir.from_proto(model)
    with proven_shapes(made, Facts(made)):
        assert made.graph[1].outputs[0].shape == ["batch", "length", 8]


@pytest.mark.parametrize("target", ["standard", "onnxruntime", "decomposed"])
def test_outputs_keep_what_the_file_says(target, build):
    body = "h = Exp (x) q = Mul (h, h) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) y = Div (h, r)"
    result = fuse(build(body, outputs="float[batch,any,8] y"), target=target)
    assert result.norms
    assert result.model.graph.outputs[0].shape == ["batch", "any", 8]
