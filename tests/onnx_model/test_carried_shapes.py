"""What a Loop carries has a shape only if its body keeps it."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rms_deploy.onnx_model import carried_shapes
from rms_deploy.onnx_model.inference import infer

HEAD = "y = Loop (trips, c, x) <body = body (int64 i, bool k, float[b,s,8] a) => (bool j, float[b,s,8] d)"
INPUTS = "float[b,s,8] x, bool c, int64 trips, float[2,1,1,1] tall, float[b,1,8] wide"
SHAPES = {
    "kept": ("d = Exp (a)", ("b", "s", 8)),
    "kept by way of a norm": ("q = Mul (a, a) m = ReduceMean (q, last) d = Div (a, m)", ("b", "s", 8)),
    "handed on": ("d = Identity (a)", ("b", "s", 8)),
    "the rank grows": ("d = Mul (a, tall)", None),
    "the rank shrinks": ("d = ReduceMean <keepdims = 0> (a, last)", None),
    "a dim changes": ("d = Concat <axis = 2> (a, a)", ("b", "s", None)),
    "a dim changes once": ("d = ReduceMean (a, last)", ("b", "s", None)),
    "another value": ("d = Exp (wide)", ("b", None, 8)),
}


def shape_of(model, name):
    """Of a value in the body, or of the result."""
    loop = next(node for node in model.graph if node.op_type == "Loop")
    graph = model.graph if name == "y" else loop.attributes["body"].as_graph()
    return infer(model).get((id(graph), name), (None, None))[1]


@pytest.mark.parametrize(("body", "expected"), SHAPES.values(), ids=SHAPES)
def test_a_carried_value_has_the_shape_that_the_body_keeps(body, expected, build):
    model = ir.from_proto(build(f"{HEAD} {{ j = Identity (k) {body} }}>", inputs=INPUTS))
    for name in ("a", "y"):
        shape = shape_of(model, name)
        known = None if shape is None else tuple(None if str(dim).startswith("unk") else dim for dim in shape)
        assert known == expected


def loop(result, source, body, names="ikajd", condition="c"):
    i, k, a, j, d = names
    return (
        f"{result} = Loop (trips, {condition}, {source}) <body = body (int64 {i}, bool {k}, float[b,s,8] {a}) "
        f"=> (bool {j}, float[b,s,8] {d}) {{ {j} = Identity ({k}) {body} }}>"
    )


def test_one_loop_after_another(build):
    text = f"{loop('y', 'x', 'd = Exp (a)')} {loop('z', 'y', 'd = Neg (a)')}"
    model = ir.from_proto(build(text, inputs=INPUTS, outputs="float[b,s,8] z"))
    assert infer(model)[id(model.graph), "z"][1] == ("b", "s", 8)


def test_a_loop_in_a_loop(build):
    for body, expected in (("r = Exp (p)", ("b", "s", 8)), ("r = Mul (p, tall)", None)):
        inner = loop("d", "a", body, names="mnpqr", condition="k")
        model = ir.from_proto(build(loop("y", "x", inner), inputs=INPUTS))
        assert shape_of(model, "y") == expected


def test_too_many_rounds_prove_nothing(build, monkeypatch):
    monkeypatch.setattr(carried_shapes, "_MAX_ROUNDS", 1)
    model = ir.from_proto(build(f"{HEAD} {{ j = Identity (k) d = Exp (a) }}>", inputs=INPUTS))
    assert shape_of(model, "y") is None


def test_what_too_many_rounds_left_open_is_not_read_later(build, monkeypatch):
    monkeypatch.setattr(carried_shapes, "_MAX_ROUNDS", 1)
    proto = build(f"{HEAD} {{ j = Identity (k) d = Mul (a, tall) }}>", inputs=INPUTS)
    (body,) = (attribute.g for attribute in proto.graph.node[0].attribute)
    body.input[2].type.tensor_type.ClearField("shape")
    for _ in range(2):
        inferred = carried_shapes.infer_with_loops(proto, data_prop=False)
        (body,) = (attribute.g for attribute in inferred.graph.node[0].attribute)
        assert not body.input[2].type.tensor_type.HasField("shape")
