"""What is run of a model to compare a norm with its op."""

import onnx_ir as ir

from rms_deploy.fusion.proof.node_slice import is_run, nodes_between
from rms_deploy.onnx_model.analysis import Facts


def sliced(proto, start, end):
    model = ir.from_proto(proto)
    values = {value.name: value for node in model.graph for value in node.outputs}
    values.update({value.name: value for value in model.graph.inputs})
    names = {values[start]: "x"}
    nodes = nodes_between(values[end], names, Facts(model))
    return nodes and [node.outputs[0].name for node in nodes], {value.name: name for value, name in names.items()}


def test_the_nodes_between_in_their_order(build):
    nodes, names = sliced(build("a = Exp (x) b = Neg (a) c = Tanh (x) d = Add (b, c) y = Abs (d)"), "a", "d")
    assert sorted(nodes) == ["b", "c", "d"]
    assert nodes[-1] == "d"
    assert names["x"] != "x"
    assert names["a"] == "x"


def test_what_equals_the_start_is_the_start(build):
    nodes, names = sliced(build("a = Exp (x) b = Exp (x) d = Add (a, b) y = Abs (d)"), "a", "d")
    assert nodes == ["d"]
    assert names["a"] == names["b"] == "x"


def test_a_long_way_is_not_run(build):
    links = " ".join(f"v{i + 1} = Exp (v{i})" for i in range(80))
    nodes, _ = sliced(build(f"v0 = Abs (x) {links} y = Neg (v80)"), "x", "v80")
    assert nodes is None


def test_operators_of_others_are_not_run(build):
    model = ir.from_proto(build("a = com.microsoft.FastGelu (x) b = Exp (a) y = SimplifiedLayerNormalization (b, b)"))
    assert [is_run(node) for node in model.graph] == [False, True, True]
