"""What a model says beside what it computes goes along to one made of it."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir

from rms_deploy.onnx_model.carry_over import carry_over

TEXT = """
    <ir_version: 10, opset_import: ["" : 18], producer_name: "maker", doc_string: "a model", metadata_props: ["k": "v"]>
    g (float[b,8] x, bool c) => (float[b,8] y) {
        [first] a = Exp (x)
        [second] y = If (c) <then_branch = t () => (float[b,8] ty) { [inner] ty = Neg (a) },
                             else_branch = e () => (float[b,8] ey) { ey = Exp (a) }>
    }
"""


def models(old: str = TEXT) -> tuple[ir.Model, ir.Model]:
    """One that says something, and one of the same names that does not, and has a node more."""
    made = onnx.parser.parse_model(TEXT)
    made.graph.node.insert(0, onnx.helper.make_node("Neg", ["x"], ["ty"], name="inner"))
    made.graph.node.add(op_type="Neg", input=["a"], output=["more"], name="first")
    made.doc_string = made.producer_name = ""
    del made.metadata_props[:]
    for node in made.graph.node[1:3]:
        node.name = ""
    return ir.from_proto(onnx.parser.parse_model(old)), ir.from_proto(made)


def test_documents_metadata_and_names() -> None:
    old, new = models()
    old.graph.doc_string, old.graph.metadata_props["graph"] = "a graph", "1"
    old.graph[0].doc_string, old.graph[0].metadata_props["node"] = "a node", "2"
    old.graph[0].outputs[0].doc_string = "a value"
    old.graph.inputs[0].type = ir.TensorType(ir.DataType.FLOAT, denotation="TENSOR")
    old.graph.inputs[0].doc_string = "an input"
    next(iter(old.graph[1].attributes["then_branch"].as_graph())).metadata_props["inner"] = "3"
    carry_over(old, new)
    assert (new.producer_name, new.doc_string, new.metadata_props) == ("maker", "a model", {"k": "v"})
    assert (new.graph.doc_string, new.graph.metadata_props) == ("a graph", {"graph": "1"})
    node = new.graph[1]
    assert (node.name, node.doc_string, node.metadata_props) == ("first", "a node", {"node": "2"})
    assert node.outputs[0].doc_string == "a value"
    assert new.graph.inputs[0].doc_string == "an input"
    assert ir.to_proto(new).graph.input[0].type.denotation == "TENSOR"
    inner = new.graph[2].attributes["then_branch"].as_graph()[0]
    assert (inner.name, inner.metadata_props) == ("inner", {"inner": "3"})


def test_what_is_new_gets_names_of_its_own() -> None:
    old, new = models()
    carry_over(old, new)
    assert [node.name for node in new.graph] == ["inner_2", "first", "second", "first_2"]
    assert new.graph[0].outputs[0].name == "ty_2"


def test_shapes_that_were_inferred_from_declared_ones_are_dropped() -> None:
    for declared, kept in ((None, True), (ir.Shape(["b", 9]), False)):
        old, new = models()
        old.graph[0].outputs[0].shape = declared
        new.graph[3].outputs[0].shape = ir.Shape(["b", 9])
        carry_over(old, new)
        assert (new.graph[3].outputs[0].shape is not None) is kept
        assert new.graph[1].outputs[0].shape == declared


def test_shapes_are_dropped_where_values_of_two_graphs_have_one_name() -> None:
    for inner, kept in (("z", True), ("a", False)):
        old, new = models(TEXT.replace("{ ey = Exp (a) }", f"{{ {inner} = Exp (x) ey = Exp ({inner}) }}"))
        value = new.graph[2].attributes["else_branch"].as_graph()[0].outputs[0]
        value.shape = ir.Shape(["b", 8])
        new.graph[1].outputs[0].shape = ir.Shape(["b", 8])
        carry_over(old, new)
        assert (new.graph[1].outputs[0].shape is not None) == kept
