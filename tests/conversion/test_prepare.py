"""A model as the converter needs it: constants as initialisers, names that nobody shares, every type written down."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.conversion.prepare import prepare
from rms_deploy.errors import InputError
from rms_deploy.ops.nodes import all_graphs


def test_float32_constants_become_initialisers(prepared):
    model = prepared("a = Constant<value_float = 0.5>() b = Constant<value_int = 3>() y = Mul(x, a)")
    assert model.graph.initializers["a"].const_value.numpy() == np.float32(0.5)
    assert [node.op_type for node in model.graph] == ["Constant", "Mul"]


def test_what_is_computed_from_constants_is_one_constant(prepared):
    model = prepared("k = Add(w, one) y = Mul(x, k)", constants="float[2] w = {0.6459, 0.7}, float one = {1}")
    assert [node.op_type for node in model.graph] == ["Mul"]
    assert list(model.graph.initializers) == ["k"]
    assert np.array_equal(model.graph.initializers["k"].const_value.numpy(), np.float32([0.6459, 0.7]) + np.float32(1))


def test_a_constant_that_is_an_output_stays_a_node(prepared):
    model = prepared("y = Constant<value_float = 0.5>()", outputs="float y")
    (node,) = model.graph
    assert node.attributes["value"].as_tensor().dtype == ir.DataType.FLOAT


def test_bodies_share_no_name_and_no_node_is_without(prepared):
    body = """y = If(c) <then_branch = t () => (float[b,8] o) { o = Neg(x) },
                         else_branch = e () => (float[b,8] o) { o = Abs(x) }>"""
    model = prepared(body, inputs="float[b,8] x, bool c")
    graphs = list(all_graphs([model.graph]))
    values = [value.name for graph in graphs for node in graph for value in node.outputs]
    nodes = [node.name for graph in graphs for node in graph]
    assert len(values) == len(set(values)) == 3
    assert all(nodes)
    assert len(nodes) == len(set(nodes)) == 3


def test_what_an_earlier_cast_named_gets_another_name(prepared):
    model = prepared("graph_input_cast_0 = Neg(x) y = Abs(graph_input_cast_0)")
    assert next(iter(model.graph)).outputs[0].name == "earlier_graph_input_cast_0"


def test_functions_of_others_are_inlined():
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 18, "local" : 1]>
        g (float[b,8] x) => (float[b,8] y) { y = local.F(x) }
        <domain: "local", opset_import: ["" : 18]> F (a) => (z) { z = Neg(a) }""")
    model = ir.from_proto(model)
    prepare(model)
    assert [node.op_type for node in model.graph] == ["Neg"]
    assert not model.functions


def test_types_are_written_down(prepared):
    model = prepared("a = Neg(x) i = Shape(a) f = Cast<to = 1>(i) y = Mul(a, a)")
    types = [value.dtype for node in model.graph for value in node.outputs]
    assert types == [ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.FLOAT]


def test_an_unknown_type_is_named(prepared):
    with pytest.raises(
        InputError, match=r"value a of node Unknown \(Unknown\): its element type cannot be told; write"
    ):
        prepared("a = local.Unknown(x) y = local.Other(a)")
