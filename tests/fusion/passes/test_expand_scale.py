"""A scale of few elements in the shape of its block, in the operators of every opset."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from rms_deploy.fusion.passes.expand_scale import expanded, integers


def run(nodes: list[ir.Node], inputs: list[ir.Value], opset: int, rank: int = 2) -> np.ndarray:
    """On ONNX Runtime, which takes and gives no bfloat16."""
    end = ir.node("Cast", [nodes[-1].outputs[0]], {"to": ir.DataType.FLOAT})
    end.outputs[0].name, end.outputs[0].type = "y", ir.TensorType(ir.DataType.FLOAT)
    end.outputs[0].shape = ir.Shape([None] * rank)
    graph = ir.Graph([], end.outputs, nodes=[*nodes, end], initializers=inputs, name="g", opset_imports={"": opset})
    proto = ir.to_proto(ir.Model(graph, ir_version=8))
    onnx.checker.check_model(proto, full_check=True)
    return np.asarray(ort.InferenceSession(proto.SerializeToString()).run(None, {})[0])


@pytest.mark.parametrize("opset", [7, 8, 9, 13, 18])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(1,), (), (4,)])
def test_expanded(opset, dtype, shape):
    if dtype is ml_dtypes.bfloat16 and opset < 13:
        return  # its Cast has no bfloat16
    array = np.full(shape, 1.5).astype(dtype)
    tensor = ir.tensor(array)
    scale = ir.Value(name="s", type=ir.TensorType(tensor.dtype), shape=ir.Shape(shape), const_value=tensor)
    got = run(expanded(scale, tensor.dtype, [3, 4], opset), [scale], opset)
    np.testing.assert_array_equal(got, np.full((3, 4), 1.5))


@pytest.mark.parametrize("opset", [7, 8, 9])
def test_integers(opset):
    nodes = integers([3, 4], opset)
    assert nodes[0].attributes["value"].as_tensor().dtype == (ir.DataType.FLOAT if opset < 9 else ir.DataType.INT64)
    np.testing.assert_array_equal(run(nodes, [], opset, rank=1), [3, 4])
