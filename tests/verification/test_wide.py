"""A model in a wider type, whose weights are fed as they are."""

from __future__ import annotations

import json
from math import erf
from pathlib import Path

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.errors import RunError
from rms_deploy.verification import wide as module
from rms_deploy.verification.wide import stream_weights, wide_feeds, widened


def parse(body: str, weights: str = "float16[2,2] w = {15360, 16384, 0, 15360}", *, opset: int = 18) -> ir.Model:
    header = f'<ir_version: 10, opset_import: ["" : {opset}]> g (float16[n,2] x) => (float16[n,2] y)'
    return ir.from_proto(onnx.parser.parse_model(f"{header} <{weights}> {{ {body} }}"))  # the bits of 1, 2, 0, 1


def test_a_weight_stays_in_its_type_and_each_reader_casts_it():
    wide = widened(parse("a = MatMul(x, w) y = MatMul(a, w)"), ir.DataType.DOUBLE)
    assert list(wide.weights) == ["w"]
    assert wide.weights["w"].dtype == ir.DataType.FLOAT16
    assert not wide.model.graph.initializers
    assert [node.op_type for node in wide.model.graph] == ["Cast", "MatMul", "Cast", "MatMul"]
    run, in_float32 = wide.prepare()
    x = np.array([[1.0, 1e-9]])
    np.testing.assert_allclose(run({"x": x})["y"], x @ [[1, 4], [0, 1]], rtol=1e-15)
    assert in_float32 == ()


@pytest.mark.parametrize("fused", [True, False])
def test_only_one_weight_is_widened_at_a_time(decoder, fused, monkeypatch, tmp_path):
    """In the order in which ONNX Runtime ran the nodes. The body of our op has CastLikes, of which it makes Casts."""
    made = []

    def session(model, **options):
        for index, node in enumerate(model.graph):
            node.name = f"node_{index}"
        made.append((model, make_session(model, profile_prefix=tmp_path / "run", **options)))
        return made[-1][1]

    make_session = module.runtime.session
    monkeypatch.setattr(module.runtime, "session", session)
    wide = widened(decoder(fused=fused, dtype="float16"), ir.DataType.DOUBLE)
    run, _ = wide.prepare()
    run({"ids": np.arange(12).reshape(2, 6)})
    model, running = made[-1]
    events = json.loads(Path(running.end_profiling()).read_text())
    names = [event["name"].removesuffix("_kernel_time") for event in events]
    nodes = {node.name: node for node in model.graph}
    live, peak = {}, 0
    for node in (nodes[name] for name in names if name in nodes):
        origin = node.inputs[0]
        if origin.producer() is not None and origin.producer().op_type == "Reshape":
            origin = origin.producer().inputs[0]
        if node.op_type == "Cast" and origin.name in wide.weights:
            live[node.outputs[0]] = 8 * wide.weights[origin.name].size
            peak = max(peak, sum(live.values()))
        for value in node.inputs:
            live.pop(value, None)
    assert peak == max(8 * tensor.size for tensor in wide.weights.values())
    assert wide.nbytes > peak


def test_the_memory_is_that_of_the_largest_weight():
    weights = "float16[2,2] w = {1, 1, 1, 1}, float16[2,3] v = {1, 1, 1, 1, 1, 1}"
    wide = widened(parse("a = MatMul(x, w) y = MatMul(a, v)", weights), ir.DataType.DOUBLE)
    assert wide.nbytes == 2 * 6 * 8


def test_a_weight_in_a_constant_node_is_fed_too():
    body = "w32 = Cast<to=1>(w) x32 = Cast<to=1>(x) z = MatMul(x32, w32) y = Cast<to=10>(z)"
    wide = widened(parse(body, "float16[2,16] w = {" + ", ".join("1" * 32) + "}"), ir.DataType.DOUBLE)
    assert [tensor.dtype for tensor in wide.weights.values()] == [ir.DataType.FLOAT], "folded as the model rounds it"


@pytest.mark.parametrize("weights", ["float16[2] w = {1, 1}", "float16[1,2] w = {1, 1}", "float16 w = {1}"])
def test_vectors_stay_constants(weights):
    wide = widened(parse("y = Mul(x, w)", weights), ir.DataType.DOUBLE)
    assert not wide.weights
    assert wide.nbytes == 8 * wide.model.graph.initializers["w"].const_value.size


def test_a_weight_in_a_body_is_cast_there():
    body = """yes = Constant<value = bool {1}>()
        y = If (yes) <then_branch = a () => (float16[n,2] p) { p = MatMul(x, w) },
                      else_branch = b () => (float16[n,2] q) { q = MatMul(x, w) }>"""
    run, _ = widened(parse(body), ir.DataType.DOUBLE).prepare()
    np.testing.assert_array_equal(run({"x": np.array([[1.0, 1.0]])})["y"], [[1, 3]])


def test_a_weight_that_is_an_output_or_an_input_stays():
    model = parse("y = Identity(w)", "float16[2,2] w = {1,1,1,1}")
    model.graph.outputs[0] = model.graph.initializers["w"]
    assert stream_weights(model, {v: v.const_value for v in model.graph.initializers.values()}) == {}


@pytest.mark.parametrize("op", ["Erf", "Gelu"])
def test_an_op_without_a_kernel_in_float64_runs_in_float32(op):
    """ONNX Runtime makes Erf of Gelu, and has no Erf in float64."""
    wide = widened(parse(f"a = MatMul(x, w) b = {op}(a) y = Mul(b, b)", opset=20), ir.DataType.DOUBLE)
    run, in_float32 = wide.prepare()
    assert in_float32 == ("Erf",)
    y = run({"x": np.array([[0.5, -0.25]])})["y"]
    assert y.dtype == np.float64
    a = np.array([0.5, 0.75])
    exact = [erf(v) if op == "Erf" else v * (1 + erf(v / 2**0.5)) / 2 for v in a]
    np.testing.assert_allclose(y[0], np.square(exact), rtol=8 * 2**-24)  # a few roundings to float32


def test_an_op_that_knows_no_float64_runs_in_float32():
    """14336 are the bits of 0.5."""
    body = """s = Constant <value = float16 {14336}> () z = Constant <value = int8 {0}> () q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z) y = MatMul (d, w)"""
    run, in_float32 = widened(parse(body, opset=20), ir.DataType.DOUBLE).prepare()
    assert sorted(in_float32) == ["DequantizeLinear", "QuantizeLinear"]
    y = run({"x": np.array([[0.7, -1.1]])})["y"]
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, np.array([[0.5, -1.0]]) @ [[1, 2], [0, 1]])


def test_an_output_keeps_its_name_where_its_op_runs_in_float32():
    run, in_float32 = widened(parse("a = MatMul(x, w) y = Erf(a)"), ir.DataType.DOUBLE).prepare()
    assert in_float32 == ("Erf",)
    assert run({"x": np.zeros((1, 2))})["y"].dtype == np.float64


def test_what_onnxruntime_refuses_for_another_reason_is_an_error():
    with pytest.raises(RunError, match="Unknown"):
        model = parse("y = acme.Unknown(x)")
        model.opset_imports["acme"] = 1
        widened(model, ir.DataType.DOUBLE).prepare()


def test_only_floats_of_the_inputs_are_widened():
    feeds = wide_feeds({"x": np.zeros(2, np.float16), "ids": np.zeros(2, np.int64)}, ir.DataType.DOUBLE)
    assert [array.dtype for array in feeds.values()] == [np.float64, np.int64]
    assert module.lacks_functions(parse("y = Neg(x)")) is False
