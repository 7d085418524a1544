"""What TensorRT's parser is given."""

from __future__ import annotations

import onnx
import onnx.compose
import onnx_ir as ir

from rms_deploy.engine.parser_input import (
    count_unfused,
    fused_norms,
    norm_kinds,
    with_decomposed_norms,
    with_plugin_norms,
)
from rms_deploy.fusion.fuse import fuse
from rms_deploy.onnx_model.file import load_model


def test_norms_become_nodes_that_name_their_plugin(small):
    model = load_model(small())
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    prepared, norms = with_plugin_norms(model)
    nodes = [node for node in prepared.graph if node.domain == "rms_deploy"]
    assert [(node.name, node.op_type) for node in nodes] == list(norms) == list(fused_norms(model))
    assert {node.attributes["plugin_namespace"].value for node in nodes} == {"rms_deploy"}
    assert {node.attributes["plugin_version"].value for node in nodes} == {"1"}
    assert "epsilon" in nodes[0].attributes, "the plugin is told every attribute"
    assert not prepared.functions
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_decomposed_norms_leave_neither_node_nor_function(small):
    prepared = with_decomposed_norms(load_model(small()))
    assert not [node for node in prepared.graph if node.domain == "rms_deploy"]
    assert not prepared.functions


def test_some_norms_become_plugins_and_the_others_get_their_bodies(small):
    model = load_model(small())
    names = [norm.name for norm in fused_norms(model)]
    prepared, norms = with_plugin_norms(model, {names[1]})
    assert [norm.name for norm in norms] == names
    assert [node.name for node in prepared.graph if node.domain == "rms_deploy"] == [names[1]]
    assert [node.op_type for node in prepared.graph].count("ReduceMean") == 2
    assert not prepared.functions


def test_kinds_of_norms_with_the_largest_first(small):
    model = load_model(small())
    names = [norm.name for norm in fused_norms(model)]
    kinds = norm_kinds(model)
    assert [str(kind) for kind in kinds] == ["AddRMSNorm 64 float32", "RMSNorm 64 float32", "PartialRMSNorm 64 float32"]
    assert list(kinds.values()) == [{name} for name in names]


def test_norms_that_other_tools_changed_are_norms(small):
    model = onnx.compose.add_prefix(ir.to_proto(fuse(small()).model), "a_")
    assert {node.op_type for node in model.graph.node} >= {"a_RMSNorm", "a_AddRMSNorm"}
    expected = [op for _, op in fused_norms(load_model(small()))]
    assert [op for _, op in fused_norms(ir.from_proto(model))] == expected
    assert [norm.op for norm in with_plugin_norms(ir.from_proto(model))[1]] == expected
    assert not [n for n in with_decomposed_norms(ir.from_proto(model)).graph if n.domain == "rms_deploy"]


def test_a_name_that_two_nodes_have_is_replaced(small):
    model = load_model(small())
    for node in model.graph:
        node.name = "same" if node.op_type != "RMSNorm" else "its own"
    names = [name for name, _ in fused_norms(model)]
    assert names == ["rms_deploy.AddRMSNorm.0", "its own", "rms_deploy.PartialRMSNorm.2"]


def test_a_norm_in_a_function_counts_at_each_call(small):
    model = onnx.load(small())
    function = """<domain: "own", opset_import: ["rms_deploy" : 1]>
    Norm (x, s) => (y) { y = rms_deploy.RMSNorm (x, s) }"""
    model.functions.append(onnx.parser.parse_function(function))
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))
    for index, source in enumerate("YZ"):
        model.graph.node.append(onnx.helper.make_node("Norm", [source, "scale"], ["ZQ"[index]], domain="own"))
    prepared, norms = with_plugin_norms(ir.from_proto(model))
    assert len(norms) == 5
    assert {norm.name for norm in norms} == {node.name for node in prepared.graph if node.domain == "rms_deploy"}


def test_norms_that_fuse_would_take(small, build):
    body = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, scale)"
    assert count_unfused(ir.from_proto(build(body))) == 1
    assert count_unfused(load_model(small())) == 0
