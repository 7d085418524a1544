"""Ops that quantise: ONNX Runtime runs their function body, in which the norm is our kernel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from rms_deploy.errors import RunError
from rms_deploy.ops.contract import OPS, QUANTIZED_TYPES
from rms_deploy.ops.functions import attach_functions
from rms_deploy.ops.reference import outputs_of
from rms_deploy.runtime import onnxruntime_session as runtime

from .one_node import node_model, op_inputs, scale_type

QUANTIZING = [name for name, op in OPS.items() if op.is_quantized]


def quantizing_model(name, inputs, opset, **attributes):
    proto = node_model(name, inputs, **attributes)
    proto.opset_import[0].version = opset
    model = ir.from_proto(proto)
    attach_functions(model)
    return ir.to_proto(model)


def kernels_of(session):
    """The ops that ran, by ONNX Runtime's own profile."""
    events = json.loads(Path(session.end_profiling()).read_text())
    return {event["args"]["op_name"] for event in events if event["cat"] == "Node" and "op_name" in event["args"]}


@pytest.mark.parametrize("output_type", QUANTIZED_TYPES)
@pytest.mark.parametrize("dtypes", [("float32", None), ("float16", None), ("float16", "float32")], ids=str)
@pytest.mark.parametrize("name", QUANTIZING)
def test_the_norm_inside_is_our_kernel(name, dtypes, output_type, round_before_scale, tmp_path):
    """A code differs where the norm differs by the unit in the last place that the contract leaves open."""
    op, (dtype, sum_type) = OPS[name], dtypes
    inputs = op_inputs(op, (7, 3, 111), (111,), (dtype, dtype), sum_type)
    order = scale_type(dtype, round_before_scale)
    attributes = {"scale_type": order, "y_scale": 0.03, "output_dtype": QUANTIZED_TYPES[output_type]}
    model = quantizing_model(name, inputs, 19, **attributes)
    session = runtime.session(model, profile_prefix=tmp_path / "profile")
    out = runtime.run(session, inputs)
    assert op.without_quantization.name in kernels_of(session)
    y, *total = outputs_of(op, inputs, **attributes)
    codes = out["Y"].view(y.dtype)  # numpy knows no float8, so onnxruntime gives their bytes
    assert np.mean(codes != y) < 0.01
    assert [out[name].tobytes() for name, _ in op.outputs[1:]] == [array.tobytes() for array in total]


def test_without_its_function_such_a_node_is_unknown():
    inputs = op_inputs(OPS["RMSNormQuantize"], (2, 8), (8,), ("float32", "float32"))
    model = node_model("RMSNormQuantize", inputs, y_scale=0.03, output_dtype=QUANTIZED_TYPES["int8"])
    with pytest.raises(RunError, match="rms_deploy::RMSNormQuantize is unknown to onnxruntime"):
        runtime.session(model)
