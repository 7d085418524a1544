"""The nodes of our ops, wherever they are in a model, and what they leave out."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.ops.nodes import (
    axes_of,
    float_of,
    given_inputs,
    graphs_of,
    int_of,
    label,
    norm_nodes,
    place_of,
    require_onnx_opset,
    write_defaults,
)

TEXT = """
    <ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1, "acme" : 1]>
    g (bool c, float[2,4] x, float[4] s) => (float[2,4] y) {
        a = rms_deploy.RMSNorm (x, s)
        b = If (c) <
            then_branch = p () => (float[2,4] u) { u = rms_deploy.RMSNorm <epsilon = 0.5, axes = [0]> (a, s) },
            else_branch = q () => (float[2,4] v) { v = acme.RMSNorm (a, s) }
        >
        y = acme.Block (b, s)
    }
    <domain: "acme", opset_import: ["" : 18, "rms_deploy" : 1]>
    Block (x, s) => (z) { z, sum = rms_deploy.AddRMSNorm (x, x, s) }
    <domain: "rms_deploy", opset_import: ["" : 18, "rms_deploy" : 1]>
    RMSNorm (x, s) => (w) { w = rms_deploy.PartialRMSNorm <partial_size = 1> (x, s) }
"""


@pytest.fixture
def model() -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(TEXT))


def test_nodes_of_subgraphs_and_of_others_functions_count_and_our_bodies_do_not(model) -> None:
    assert [node.outputs[0].name for node in norm_nodes(model)] == ["a", "z", "u"]
    assert [graph.name for graph in graphs_of(model)][:1] == ["g"]


def test_attributes_and_their_defaults(model) -> None:
    plain, _, given = norm_nodes(model)
    assert (axes_of(plain), float_of(plain, "epsilon"), int_of(plain, "scale_type")) == ((-1,), 1e-6, 1)
    assert (axes_of(given), float_of(given, "epsilon"), float_of(given, "rms_min")) == ((0,), 0.5, 0.0)
    write_defaults(plain)
    write_defaults(given)
    assert set(plain.attributes) == {"axes", "epsilon", "rms_epsilon", "rms_min", "scale_type"} == set(given.attributes)
    assert float_of(given, "epsilon") == 0.5


def test_a_node_is_called_by_its_name_else_by_what_it_gives(model) -> None:
    node = next(norm_nodes(model))
    assert label(node) == "a"
    node.name = "/norm"
    assert label(node) == "/norm"
    assert label(ir.Node("", "Loop", [], num_outputs=0)) == "Loop"


def test_a_model_without_an_opset_of_onnx_gets_one() -> None:
    model = ir.Model(ir.Graph([], [], nodes=[], opset_imports={}), ir_version=8)
    require_onnx_opset(model)
    assert model.opset_imports == {"": 18}
    model.opset_imports[""] = 11
    require_onnx_opset(model)
    assert model.opset_imports == {"": 11}


@pytest.mark.parametrize(
    ("name", "scopes", "place"),
    [
        ("node_1", "['', 'layers.0', 'layers.0.norm', 'rms_norm']", "layers.0.norm"),
        ("node_1", "['only']", ""),
        ("/a/node", "not a list", ""),
        ("/layers.0/norm/Mul", None, "layers.0/norm"),
        ("Mul_3", None, ""),
        (None, None, ""),
    ],
)
def test_the_module_that_a_node_came_from(name, scopes, place) -> None:
    node = ir.Node("", "Mul", [], name=name)
    if scopes is not None:
        node.metadata_props["pkg.torch.onnx.name_scopes"] = scopes
    assert place_of(node) == place


def test_inputs_at_the_end_that_are_left_out_are_not_given():
    a, b = ir.Value(name="a"), ir.Value(name="b")
    assert given_inputs(ir.node("Clip", [a, None, b])) == (a, None, b)
    assert given_inputs(ir.node("Clip", [a, b, None])) == (a, b)
    assert given_inputs(ir.node("Clip", [a, None, None])) == (a,)
    assert given_inputs(ir.node("Constant", [])) == ()
