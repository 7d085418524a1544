"""A graph as shape inference is given it: what runtimes enforce, and no more."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.data_propagation import MAX_LENGTH
from rms_deploy.onnx_model.inferable import GraphForInference


def made(proto: onnx.ModelProto) -> GraphForInference:
    model = ir.from_proto(proto)
    graph = GraphForInference(model, model.graph)
    graph.add_declared_inputs()
    graph.add_content()
    return graph


def test_shapes_of_results_are_not_given(build):
    proto = build("v = Exp (x) u = com.microsoft.Unknown (v) y = Neg (u)")
    proto.graph.value_info.extend(onnx.helper.make_tensor_value_info(name, 1, [7]) for name in "vu")
    graph = made(proto).proto.graph
    assert [info.name for info in graph.value_info] == ["u"]  # of which nobody knows more
    assert not graph.output[0].type.tensor_type.HasField("shape")
    assert graph.input[0].type.tensor_type.HasField("shape")


@pytest.mark.parametrize(("ir_version", "given"), [(3, True), (8, False)])
def test_an_initializer_that_a_caller_may_replace_has_no_value(ir_version, given, build):
    proto = build("v = ReduceMean (x, last) y = Exp (v)")
    proto.ir_version = ir_version
    proto.graph.input.append(onnx.helper.make_tensor_value_info("last", onnx.TensorProto.INT64, [1]))
    assert ("last" in {tensor.name for tensor in made(proto).proto.graph.initializer}) is given


def test_the_length_of_a_long_vector_is_hidden_and_found_again(build):
    graph = made(build("y = Exp (x)", inputs=f"float[{MAX_LENGTH + 1}] x"))
    tensor = graph.proto.graph.input[0].type.tensor_type
    assert not tensor.shape.dim[0].dim_value
    assert graph.known(tensor) == (ir.DataType.FLOAT, (MAX_LENGTH + 1,))


def test_bodies_of_unknown_operators_are_named(build):
    body = "y = com.microsoft.Search (x) <decoder = d (float[b,8] a) => (float[b,8] o) { o = Exp (a) }>"
    (inside,) = made(build(body)).foreign_bodies
    assert inside.name == "d"


def test_an_initializer_has_the_name_of_its_value(build):
    """A tensor in memory may have another name, or that of another, as torch's exporter leaves them."""
    model = ir.from_proto(build("v = ReduceMean (x, last) y = Add (v, one)"))
    for value in model.graph.initializers.values():
        value.const_value = ir.Tensor(value.const_value.numpy(), name="same")
    graph = GraphForInference(model, model.graph)
    graph.add_content()
    assert {tensor.name for tensor in graph.proto.graph.initializer} == {"last", "one"}
