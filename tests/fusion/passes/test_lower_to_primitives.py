"""The body of each of our nodes in its place, with nothing that the node does not need."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.errors import InputError
from rms_deploy.fusion.passes.lower_to_primitives import LowerToPrimitives
from rms_deploy.ops.functions import attach_functions


def parsed(body, *, dtype="float", opset=18):
    header = f'<ir_version: 8, opset_import: ["" : {opset}, "rms_deploy" : 1]>'
    signature = f"g ({dtype}[b,8] X, {dtype}[b,8] R, {dtype}[8] scale) => ({dtype}[b,8] Y)"
    return ir.from_proto(onnx.parser.parse_model(f"{header} {signature} {{ {body} }}"))


def lowered(model):
    """The operators, without constants."""
    assert LowerToPrimitives()(model).modified
    assert not model.functions
    assert "rms_deploy" not in model.opset_imports
    assert not LowerToPrimitives()(model).modified
    return [node.op_type for node in model.graph if node.op_type != "Constant"]


MEAN = ["Pow", "ReduceMean", "Add", "Sqrt"]
BODIES = {
    "float32": ("Y = rms_deploy.RMSNorm (X, scale)", "float", [*MEAN, "Div", "Mul"]),
    "float16, rounded once": (
        "Y = rms_deploy.RMSNorm (X, scale)",
        "float16",
        ["Cast", *MEAN, "Div", "Cast", "Mul", "Cast"],
    ),
    "float16, rounded first": (
        "Y = rms_deploy.RMSNorm <scale_type = 10> (X, scale)",
        "float16",
        ["Cast", *MEAN, "Div", "Cast", "Mul"],
    ),
    "constants of the root": (
        "Y = rms_deploy.RMSNorm <rms_epsilon = 0.5, rms_min = 0.25> (X, scale)",
        "float",
        [*MEAN, "Add", "Max", "Div", "Mul"],
    ),
    "residual": ("Y, S = rms_deploy.AddRMSNorm (X, R, scale)", "float", ["Add", *MEAN, "Div", "Mul"]),
    "partial": ("Y = rms_deploy.PartialRMSNorm <partial_size = 4> (X, scale)", "float", None),
}


@pytest.mark.parametrize(("body", "dtype", "operators"), BODIES.values(), ids=BODIES)
def test_the_body_takes_the_place_of_the_node(body, dtype, operators):
    kinds = lowered(parsed(body, dtype=dtype))
    assert kinds == operators if operators else "Slice" in kinds


@pytest.mark.parametrize("opset", [11, 13, 18, 23])
def test_constants_are_tensors(opset):
    """The other forms of a Constant are unknown to TVM and onnx2torch."""
    model = parsed(BODIES["constants of the root"][0], opset=opset)
    lowered(model)
    constants = [node for node in model.graph if node.op_type == "Constant"]
    assert {name for node in constants for name in node.attributes} == {"value"}
    floats = [node.attributes["value"].value.numpy() for node in constants if node.outputs[0].name != "Axes"]
    assert [float(value) for value in floats] == [2, pytest.approx(1e-6), 0.5, 0.25]
    assert {value.dtype.name for value in floats} == {"float32"}


def test_each_node_gets_the_body_that_it_needs():
    model = parsed("A = rms_deploy.RMSNorm <rms_min = 0.25> (X, scale) Y = rms_deploy.RMSNorm (A, scale)")
    model.graph[0].outputs[0].type = ir.TensorType(ir.DataType.FLOAT)  # as `lower` writes down what the file leaves out
    attach_functions(model)
    assert lowered(model) == [*MEAN, "Max", "Div", "Mul", *MEAN, "Div", "Mul"]


def test_what_the_opset_lacks():
    body = "Y = rms_deploy.PartialRMSNorm <axes = [-2, -1], partial_size = 4> (X, scale)"
    with pytest.raises(InputError, match="over several axes needs opset >= 18, the model has 13"):
        LowerToPrimitives()(parsed(body, opset=13))
