"""What a pass puts into a graph, and what it takes away because nothing reads it any more."""

import numpy as np
import onnx_ir as ir

from rms_deploy.fusion.passes.new_nodes import UNIT_SCALE
from rms_deploy.fusion.passes.rewriting import (
    drop_unread_initializer,
    place_of,
    read_shape_of,
    remove_if_dead,
    successor,
)
from rms_deploy.onnx_model.analysis import Facts

CORE = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r)"


def test_weightless_norms_share_one_scale(build, check):
    body = f"{CORE} y = Identity (n)" + " q2 = Mul (y, y) m2 = ReduceMean (q2, last) r2 = Sqrt (m2) z = Div (y, r2)"
    model = build(body, outputs="float[b,s,8] z")
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)}
    fused = check(model, norms=2, feeds=feeds).model
    assert list(fused.graph.initializers) == [UNIT_SCALE]


def test_the_shared_scale_takes_no_name_that_is_taken(build, check):
    model = build(f"{UNIT_SCALE} = Exp (x) {CORE} y = Add (n, {UNIT_SCALE})")
    assert list(check(model).model.graph.initializers) == [UNIT_SCALE + "_"]


def test_a_dead_node_takes_along_what_it_alone_was_reading(build):
    model = ir.from_proto(build("a = Add (x, eps) d = Mul (a, scale) y = Neg (a)"))
    remove_if_dead(model.graph[1])
    assert [node.op_type for node in model.graph] == ["Add", "Neg"]
    assert list(model.graph.initializers) == ["eps"]
    remove_if_dead(model.graph[0])  # which is read
    assert [node.op_type for node in model.graph] == ["Add", "Neg"]


def placed(build, body, outputs="float[b,s,8] y"):
    """Where an op can stand that gives a and y and reads c, and the graph then."""
    graph = ir.from_proto(build(body, outputs=outputs)).graph
    made = {value.name: node for node in graph for value in node.outputs}
    position = {node: number for number, node in enumerate(graph)}
    place = place_of(made["a"], made["y"], [made["c"].outputs[0]], made["a"].outputs, position)
    name = None if place is None else place.outputs[0].name
    return name, [node.outputs[0].name for node in graph]


def test_an_op_stands_where_the_first_node_stood_if_its_inputs_are_there(build):
    assert placed(build, "c = Exp (x) a = Neg (x) y = Add (a, c)")[0] == "a"


def test_an_op_stands_where_the_last_node_stood_if_nothing_between_reads_it(build):
    assert placed(build, "a = Neg (x) c = Exp (x) y = Add (a, c)")[0] == "y"


def test_what_computes_the_inputs_is_moved_where_something_between_reads_the_op(build):
    body = "a = Neg (x) t = Exp (a) d = Exp (x) c = Neg (d) y = Add (a, c)"
    assert placed(build, body, "float[b,s,8] y, float[b,s,8] t") == ("a", ["d", "c", "a", "t", "y"])


def test_there_is_no_place_where_the_inputs_depend_on_the_op(build):
    body = "a = Neg (x) t = Exp (a) c = Neg (t) y = Add (a, c)"
    assert placed(build, body, "float[b,s,8] y, float[b,s,8] t")[0] is None


def test_there_is_no_place_for_an_op_that_would_read_what_it_gives(build):
    graph = ir.from_proto(build("a = Neg (x) y = Add (a, a)")).graph
    first, last = graph
    position = {node: number for number, node in enumerate(graph)}
    assert place_of(first, last, first.outputs, first.outputs, position) is None


def test_what_is_moved_stays_sorted_when_it_is_moved_again(build):
    late = "d = Exp (x) e = Neg (d) c = Neg (e)"
    body = f"b = Exp (x) v = Exp (b) a = Neg (x) t = Exp (a) {late} y = Add (a, c) z = Add (b, c)"
    graph = ir.from_proto(build(body, outputs=", ".join(f"float[b,s,8] {name}" for name in "yztv"))).graph
    made = {value.name: node for node in graph for value in node.outputs}
    position = {node: number for number, node in enumerate(graph)}
    for first, last in (("a", "y"), ("b", "z")):
        place = place_of(made[first], made[last], [made["c"].outputs[0]], made[first].outputs, position)
        assert place is made[first]
    assert [node.outputs[0].name for node in graph] == ["d", "e", "c", "b", "v", "a", "t", "y", "z"]


def test_what_was_moved_to_one_place_is_not_moved_within_it(build):
    """d and e stand before a, and only the graph knows in which order."""
    body = "a = Neg (x) t = Exp (a) d = Exp (x) e = Neg (d) y = Add (a, e) v = Exp (e) z = Add (e, d)"
    graph = ir.from_proto(build(body, outputs=", ".join(f"float[b,s,8] {name}" for name in "yztv"))).graph
    made = {value.name: node for node in graph for value in node.outputs}
    position = {node: number for number, node in enumerate(graph)}
    assert place_of(made["a"], made["y"], made["e"].outputs, made["a"].outputs, position) is made["a"]
    before = list(graph)
    assert place_of(made["e"], made["z"], made["d"].outputs, made["e"].outputs, position) is None
    assert list(graph) == before


def test_the_shape_of_a_copy_is_that_of_x(build):
    model = ir.from_proto(
        build("y = Neg (x) i = Identity (y) c = Cast <to = 10> (i) s = Shape (c)", outputs="int64[3] s")
    )
    read_shape_of(model.graph.inputs[0], model.graph[0].outputs[0])
    assert model.graph[-1].inputs[0] is model.graph.inputs[0]
    assert [node.op_type for node in model.graph] == ["Shape"]


def test_an_initializer_that_is_read_stays(build):
    model = ir.from_proto(build("y = Add (x, eps)"))
    eps = model.graph.initializers["eps"]
    drop_unread_initializer(eps)
    assert list(model.graph.initializers) == ["eps"]


def test_a_successor_has_the_inferred_type(build):
    model = ir.from_proto(build("a = Cast <to = 10> (x) d = Neg (a) y = Exp (x)"))
    old = model.graph[1].outputs[0]
    assert old.dtype is None
    new = successor(old, Facts(model))
    assert (new.name, new.dtype, new.producer()) == ("d", ir.DataType.FLOAT16, None)
