"""Names are unique over graphs, bodies and functions, and what replaces a value keeps its name."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir

from rms_deploy.onnx_model.names import Names
from rms_deploy.ops.nodes import all_graphs, bodies_of

TEXT = """
    <ir_version: 8, opset_import: ["" : 18, "local" : 1]>
    g (float[8] x, bool c) => (float[8] y) <float[8] w = {1,2,3,4,5,6,7,8}> {
        [first] a = Exp (x)
        y = If (c) <then_branch = t () => (float[8] ty) { [inner] val_0 = Neg (a) ty = Exp (val_0) },
                    else_branch = e () => (float[8] ey) { ey = local.F (a) }>
    }
    <domain: "local", opset_import: ["" : 18]> F (fx) => (fy) { val_1 = Neg (fx) fy = Exp (val_1) }
"""


def model() -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(TEXT))


def names_of(given: ir.Model) -> Names:
    return Names([given.graph, *(function.graph for function in given.functions.values())])


def test_bodies_are_walked_over() -> None:
    given = model()
    assert [graph.name for graph in all_graphs([given.graph])] == ["g", "t", "e"]
    assert [graph.name for graph in bodies_of(given.graph[1])] == ["t", "e"]


def test_a_new_value_is_called_like_no_other() -> None:
    given = model()
    new = [ir.node("Neg", [given.graph.inputs[0]]), ir.node("Neg", [given.graph.inputs[0]], name="inner")]
    given.graph.insert_before(given.graph[0], new)  # onnx-ir calls the values val_0 and val_1
    names_of(given).settle(new)
    assert [node.outputs[0].name for node in new] == ["val_0_2", "val_1_2"]
    assert [node.name for node in new] == ["node_Neg_0", "inner_2"]


def test_names_that_are_given_are_taken_from_then_on() -> None:
    names = names_of(model())
    assert [names.unique(name) for name in ("w", "w", "w_2", "free", "free")] == [
        "w_2",
        "w_3",
        "w_2_2",
        "free",
        "free_2",
    ]
    assert names.is_taken("fx")
    assert not names.is_taken("first"), "a node's name is no value's"


def test_an_heir_keeps_its_name() -> None:
    given = model()
    old = given.graph[0]
    new = ir.node("Exp", [given.graph.inputs[0]], name="first")
    ir.convenience.replace_nodes_and_values(given.graph, old, [old], [new], old.outputs, new.outputs)
    names = names_of(given)
    names.settle([new], keep=[new, *new.outputs])
    assert (new.name, new.outputs[0].name) == ("first", "a")
    assert names.unique("a") == "a_2"


def test_the_inputs_of_a_new_body_are_renamed_and_its_tensors_are_not() -> None:
    given, other = model(), model()
    tensor = ir.tensor([1.0], name="w")
    inner = ir.Value(name="w", const_value=tensor)
    body = ir.Graph([ir.Value(name="x")], [], nodes=[], initializers=[inner], name="b")
    node = ir.node("Loop", [other.graph.inputs[0]], {"body": body})
    given.graph.append(ir.node("Identity", [given.graph.inputs[0]]))
    given.graph.append(node)
    names_of(given).settle([node])
    assert body.inputs[0].name == "x_2"
    assert list(body.initializers) == ["w_2"]
    assert tensor.name == "w"
    assert inner.const_value is not None
    assert inner.const_value.numpy().tolist() == [1]
