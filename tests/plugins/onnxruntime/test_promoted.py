"""16-bit nodes that ONNX Runtime promotes to float32: every rounding of the model is still made."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rms_deploy.ops.contract import DOMAIN, OPS
from rms_deploy.ops.element_types import element_dtype
from rms_deploy.ops.reference import outputs_of, rms_norm
from rms_deploy.runtime import onnxruntime_session as runtime

from .one_node import assert_close, element_type, model_of, op_inputs, run_node, samples, weights

HALVES = {"float16": 10, "bfloat16": 16}

PROMOTED_SUM = "InsertedPrecisionFreeCast_Sum"
"""What ONNX Runtime calls the Sum of a node that it promotes. A Sum that was float32 before keeps its name."""


def runs(op, inputs, *, outputs=None, **attributes):
    """With the scale as an input, and as a constant: the same bits."""
    first, second = (
        run_node(op.name, inputs, outputs=outputs, initializers=names, **attributes) for names in ([], ["scale"])
    )
    assert [array.tobytes() for array in first.values()] == [array.tobytes() for array in second.values()]
    return list(first.values())


@pytest.mark.parametrize("view", [((7, 133), [1]), ((2, 33, 35), [1])], ids=["rows", "columns"])
@pytest.mark.parametrize(
    "op", [op for op in OPS.values() if not op.is_gated and not op.is_quantized], ids=lambda op: op.name
)
@pytest.mark.parametrize("half", HALVES)
def test_a_float32_x_holds_16_bit_values(half, op, view):
    """X, R, scale and shift are not even representable: they are rounded as they are read."""
    shape, axes = view
    if axes[-1] + 1 != len(shape) and (op.is_shifted or op.prologue == "AddFloat32"):
        pytest.skip("it takes axes that end with the last only")
    scale_shape = (shape[1],) + (1,) * (len(shape) - 2)
    inputs = op_inputs(op, shape, scale_shape, ("float32", "float32"))
    narrow = {name: array.astype(element_dtype(half)) for name, array in inputs.items()}
    attributes = {"axes": axes, "scale_type": HALVES[half], **({"partial_size": 11} if op.is_partial else {})}
    out = runs(op, inputs, outputs=["Y", PROMOTED_SUM][: len(op.outputs)], **attributes)
    plain = runs(op, narrow, **attributes)
    assert [array.tobytes() for array in out] == [array.astype(np.float32).tobytes() for array in plain]
    expected = outputs_of(op, narrow, **attributes)
    assert [total.tobytes() for total in plain[1:]] == [total.tobytes() for total in expected[1:]]
    assert np.mean(plain[0] != expected[0]) < 0.01


@pytest.mark.parametrize("op", [op for op in OPS.values() if op.is_add and not op.is_quantized], ids=lambda op: op.name)
@pytest.mark.parametrize("half", HALVES)
def test_a_float32_sum_beside_promoted_values_stays_float32(half, op):
    """R and Sum are float32 in the model too: nothing rounds them."""
    inputs = op_inputs(op, (7, 133), (133,), ("float32", "float32"))
    narrow = {name: array if name == "R" else array.astype(element_dtype(half)) for name, array in inputs.items()}
    y, total = runs(op, inputs, scale_type=HALVES[half])
    plain_y, plain_total = runs(op, narrow, scale_type=HALVES[half])
    assert y.tobytes() == plain_y.astype(np.float32).tobytes()
    assert total.tobytes() == plain_total.tobytes() == (narrow["X"].astype(np.float32) + inputs["R"]).tobytes()


@pytest.mark.parametrize("sum_type", ["float16", "float32"])
@pytest.mark.parametrize("name", ["AddRMSNorm", "AddRMSNormShift", "AddFloat32RMSNorm"])
def test_an_isolated_add_norm_keeps_the_type_of_its_sum(name, sum_type, tmp_path):
    """X comes from a MatMul and Y goes to one, which run in float32; R and Sum are float16, or float32."""
    op = OPS[name]
    inputs = op_inputs(op, (6, 64), (64,), ("float16", "float16"), sum_type)
    kinds = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT}
    factors = ["scale", *(["shift"] if op.is_shifted else [])]
    nodes = [
        helper.make_node("MatMul", ["X", "W"], ["x"]),
        helper.make_node("Neg", ["R"], ["r"]),
        helper.make_node(name, ["x", "r", *factors], ["y", "sum"], "norm", domain=DOMAIN, scale_type=10),
        helper.make_node("MatMul", ["y", "W"], ["Y"]),
        helper.make_node("Add", ["sum", "sum"], ["Twice"]),
    ]
    constants = [
        helper.make_tensor(name, TensorProto.FLOAT16, array.shape, array.tobytes(), raw=True)
        for name, array in {"W": np.eye(64, dtype=np.float16), **{name: inputs[name] for name in factors}}.items()
    ]
    values = {"X": "float16", "R": sum_type}, {"Y": "float16", "Twice": sum_type}
    given, results = (
        [helper.make_tensor_value_info(name, kinds[kind], (6, 64)) for name, kind in names.items()] for names in values
    )
    model = model_of(helper.make_graph(nodes, "isolated", given, results, constants))
    session = runtime.session(model, optimized_path=tmp_path / "optimized.onnx")
    optimized = onnx.load(tmp_path / "optimized.onnx")
    (node,) = (n for n in optimized.graph.node if n.domain == DOMAIN)
    if node.input[0] == "x":
        pytest.skip("this onnxruntime does not promote an isolated node whose scale is an initializer")
    assert (node.output[1] != "sum") == (sum_type == "float16")
    out = runtime.run(session, {"X": inputs["X"], "R": inputs["R"]})
    y, total = outputs_of(op, {**inputs, "R": -inputs["R"]}, scale_type=10)
    assert out["Twice"].tobytes() == (total + total).tobytes()
    assert np.mean(out["Y"] != y) < 0.01


def test_an_isolated_float16_norm_keeps_its_roundings(tmp_path):
    """The Add and the MatMul around it run in float32 on this provider, and so ONNX Runtime makes the norm follow."""
    x, r, scale = samples((6, 64), "float16"), samples((6, 64), "float16", seed=2), weights((64,), "float16")
    norm = helper.make_node("RMSNorm", ["sum", "scale"], ["normed"], "norm", domain=DOMAIN, scale_type=10)
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
    (node,) = (n for n in optimized.graph.node if n.domain == DOMAIN)
    types = {v.name: v.type.tensor_type.elem_type for v in optimized.graph.value_info}
    if types[node.input[0]] != TensorProto.FLOAT:
        pytest.skip("this onnxruntime does not promote an isolated node whose scale is an initializer")
    # The sum stays unrounded where ONNX Runtime dropped the pair of casts; the norm rounds it as it reads it.
    expected = rms_norm((x.astype(np.float32) + r).astype(np.float16), scale, round_before_scale=True)
    assert_close(runtime.run(session, {"X": x, "R": r})["Y"], expected, round_before_scale=True)
