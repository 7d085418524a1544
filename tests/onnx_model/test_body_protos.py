"""The bodies of control flow for shape inference: without what they declare, with the constants that they read."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from rms_deploy.onnx_model.body_protos import SMALL, Constants, bodies, prepare_bodies

LOOP = """y = Loop (trips, c, x) <body = body (int64 i, bool k, float[b,s,8] a) => (bool j, float[b,s,8] d)
    <float[b,s,8] e, float[b,4] u> { j = Identity (k) e = ReduceMean (a, last) u = com.microsoft.Unknown (e)
    d = Mul (a, scale) }>"""


@pytest.fixture
def prepared(build):
    """The body of the Loop, and the model."""
    model = build(LOOP, inputs="float[b,s,8] x, bool c, int64 trips")
    (loop,) = model.graph.node
    prepare_bodies(loop, Constants(model.graph.node, model.graph.initializer), lambda node: node.domain != "")
    return next(bodies(loop))


def has_shape(info):
    return info.type.tensor_type.HasField("shape")


def test_what_a_body_declares_is_forgotten(prepared):
    assert [info.name for info in prepared.value_info] == ["u"]  # of which nobody knows more
    assert [has_shape(info) for info in prepared.input] == [True, True, False]  # the counter is as it is declared
    assert not any(has_shape(info) for info in prepared.output)


def test_constants_outside_that_a_body_reads_become_its_own(prepared):
    assert {tensor.name for tensor in prepared.initializer} == {"last", "scale"}


def test_constant_nodes_count_and_names_of_the_body_come_first(build):
    body = """last = Constant <value_ints = [-1]> () y = If (c) <then_branch = one () => (float[b,s,1] a)
        { a = ReduceMean (x, last) }, else_branch = other () => (float[b,s,8] d)
        { last = Neg (x) d = Neg (last) }>"""
    model = build(body, inputs="float[b,s,8] x, bool c")
    constants = Constants(model.graph.node)
    prepare_bodies(model.graph.node[1], constants, lambda _: False)
    by_name = {graph.name: graph for graph in bodies(model.graph.node[1])}
    (axes,) = by_name["one"].initializer
    assert onnx.numpy_helper.to_array(axes).tolist() == [-1]
    assert not by_name["other"].initializer


def test_bodies_in_bodies_read_what_is_outside_of_both(build):
    inner = """d = If (k) <then_branch = one () => (float[b,s,1] f) { f = ReduceMean (a, last) },
        else_branch = other () => (float[b,s,8] h) { h = Neg (a) }>"""
    loop = f"y = Loop (trips, c, x) <body = body (int64 i, bool k, float[b,s,8] a) => (bool j, float[b,s,8] d) \
        {{ j = Identity (k) {inner} }}>"
    model = build(loop, inputs="float[b,s,8] x, bool c, int64 trips")
    prepare_bodies(model.graph.node[0], Constants(model.graph.node, model.graph.initializer), lambda _: False)
    body = next(bodies(model.graph.node[0]))
    branch = next(graph for graph in bodies(body.node[1]) if graph.name == "one")
    assert [tensor.name for tensor in branch.initializer] == ["last"]


def test_large_constants_of_a_body_lose_their_values(build):
    model = build(LOOP, inputs="float[b,s,8] x, bool c, int64 trips")
    body = next(bodies(model.graph.node[0]))
    body.initializer.append(onnx.numpy_helper.from_array(np.zeros(SMALL, np.float32), "w"))
    prepare_bodies(model.graph.node[0], Constants(model.graph.node), lambda _: False)
    assert [(tensor.name, len(tensor.raw_data), list(tensor.dims)) for tensor in body.initializer] == [
        ("w", 0, [SMALL])
    ]
