"""16-bit nodes that ONNX Runtime promotes to float32: every rounding of the model is still made."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rms_deploy.ops import contract
from rms_deploy.ops.element_types import element_dtype
from rms_deploy.ops.reference import add_rms_norm, rms_norm
from rms_deploy.runtime import onnxruntime_session as runtime

from .one_node import assert_close, element_type, model_of, run_node, samples, weights

HALVES = {"float16": 10, "bfloat16": 16}


@pytest.mark.parametrize("view", [((7, 133), [1]), ((2, 33, 35), [1])], ids=["rows", "columns"])
@pytest.mark.parametrize("op", ["RMSNorm", "PartialRMSNorm", "AddRMSNorm"])
@pytest.mark.parametrize("twin", ["", "Reciprocal"])
@pytest.mark.parametrize("half", HALVES)
def test_a_float32_x_holds_16_bit_values(half, op, twin, view):
    """X, R and scale are not even representable: they are rounded as they are read."""
    shape, axes = view
    dtype = element_dtype(half)
    x, r = samples(shape, "float32"), samples(shape, "float32", seed=2)
    scale = weights((shape[1],) + (1,) * (len(shape) - 2), "float32")
    inputs = {"X": x, **({"R": r} if op == "AddRMSNorm" else {}), "scale": scale}
    partial = {"partial_size": 11} if op == "PartialRMSNorm" else {}
    out = run_node(op + twin, inputs, axes=axes, scale_type=HALVES[half], **partial)
    options = {"axes": axes, "round_before_scale": True, "round_reciprocal": bool(twin), **partial}
    if op == "AddRMSNorm":
        expected, total = add_rms_norm(x.astype(dtype), r.astype(dtype), scale, **options)
        assert out["Sum"].tobytes() == total.astype(np.float32).tobytes()
    else:
        expected = rms_norm(x.astype(dtype), scale, **options)
    assert (out["Y"].astype(dtype).astype(np.float32) == out["Y"]).all()
    assert_close(out["Y"].astype(dtype), expected, round_before_scale=True)
    narrow = {name: array.astype(dtype) for name, array in inputs.items()}
    plain = run_node(op + twin, narrow, axes=axes, scale_type=HALVES[half], **partial)
    constant = run_node(op + twin, inputs, initializers=["scale"], axes=axes, scale_type=HALVES[half], **partial)
    for name, array in plain.items():
        assert out[name].tobytes() == constant[name].tobytes() == array.astype(np.float32).tobytes()


def test_an_isolated_float16_norm_keeps_its_roundings(tmp_path):
    """The Add and the MatMul around it run in float32 on this provider, and so ONNX Runtime makes the norm follow."""
    x, r, scale = samples((6, 64), "float16"), samples((6, 64), "float16", seed=2), weights((64,), "float16")
    norm = helper.make_node("RMSNorm", ["sum", "scale"], ["normed"], "norm", domain=contract.DOMAIN, scale_type=10)
    nodes = [helper.make_node("Add", ["X", "R"], ["sum"]), norm, helper.make_node("MatMul", ["normed", "W"], ["Y"])]
    half = element_type(np.float16)
    inputs = [helper.make_tensor_value_info(name, half, x.shape) for name in ("X", "R")]
    constants = [
        helper.make_tensor(name, half, array.shape, array.tobytes(), raw=True)
        for name, array in {"scale": scale, "W": np.eye(64, dtype=np.float16)}.items()
    ]
    output = helper.make_tensor_value_info("Y", half, x.shape)
    model = model_of(helper.make_graph(nodes, "isolated", inputs, [output], constants))
    session = runtime.session(model, optimized_path=tmp_path / "optimized.onnx")
    optimized = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "optimized.onnx"))
    (node,) = (n for n in optimized.graph.node if n.domain == contract.DOMAIN)
    types = {v.name: v.type.tensor_type.elem_type for v in optimized.graph.value_info}
    if types[node.input[0]] != TensorProto.FLOAT:
        pytest.skip("this onnxruntime does not promote an isolated node whose scale is an initializer")
    # The sum stays unrounded where ONNX Runtime dropped the pair of casts; the norm rounds it as it reads it.
    expected = rms_norm((x.astype(np.float32) + r).astype(np.float16), scale, round_before_scale=True)
    assert_close(runtime.run(session, {"X": x, "R": r})["Y"], expected, round_before_scale=True)
