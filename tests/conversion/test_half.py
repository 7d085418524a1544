"""A model in a half type: where Casts stand, which weights are rounded, and what runs equals what was meant."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rms_deploy.conversion.cast import cast
from rms_deploy.conversion.half import to_half
from rms_deploy.ops.nodes import all_graphs

FLOAT, FLOAT16, BFLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16
W = "float[8] w = {1.0001,2,3,4,5,6,7,8}"


def ops(model):
    return [node.op_type for node in model.graph]


def check(model):
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    return model


@pytest.mark.parametrize("to", [FLOAT16, BFLOAT16])
def test_everything(prepared, to):
    model = check(to_half(prepared("a = Mul(x, w) y = Neg(a)", constants=W), to, kept=(), keep_io=False))
    assert ops(model) == ["Mul", "Neg"]
    assert {model.graph.inputs[0].dtype, model.graph.outputs[0].dtype} == {to}
    weight = model.graph.initializers["w"].const_value
    expected = np.array([1.0001, 2, 3, 4, 5, 6, 7, 8], np.float32).astype(to.numpy())
    assert weight.dtype == to
    assert np.array_equal(weight.numpy(), expected)


def test_inputs_and_outputs_that_stay(prepared):
    model = check(to_half(prepared("y = Mul(x, w)", constants=W), FLOAT16, kept=(), keep_io=True))
    assert ops(model) == ["Cast", "Mul", "Cast"]
    assert {model.graph.inputs[0].dtype, model.graph.outputs[0].dtype} == {FLOAT}


def test_kept_neighbours_are_not_rounded_between(prepared):
    """The converter alone casts to float16 and back there, where a large number becomes infinite."""
    source = prepared("a = Mul(x, x) b = Mul(a, w) y = Sqrt(b)", constants=W)
    kept = [node.name for node in source.graph]
    model = check(to_half(source, FLOAT16, kept=kept, keep_io=False))
    assert ops(model) == ["Cast", "Mul", "Mul", "Sqrt", "Cast"]
    assert model.graph.initializers["w"].const_value.dtype == FLOAT


def test_with_float32_ends_kept_nodes_need_no_cast(prepared):
    source = prepared("a = Mul(x, x) y = Sqrt(a)")
    model = check(to_half(source, FLOAT16, kept=[node.name for node in source.graph], keep_io=True))
    assert [op for op in ops(model) if op != "Cast"] == ["Mul", "Sqrt"]
    casts = [node for node in model.graph if node.op_type == "Cast"]
    assert all(value.dtype == FLOAT for node in casts for value in (*node.inputs, *node.outputs))


def test_a_weight_that_both_kinds_read_is_there_twice(prepared):
    source = prepared("a = Mul(x, w) y = Add(a, w)", constants=W)
    model = check(to_half(source, FLOAT16, kept=[next(iter(source.graph)).name], keep_io=False))
    types = {name: value.const_value.dtype for name, value in model.graph.initializers.items()}
    assert types == {"w": FLOAT16, "w_float32": FLOAT}


def test_casts_of_a_body_stand_in_it(prepared):
    body = """y = If(c) <then_branch = t () => (float[b,8] o) { a = CumSum(x, axis) o = Neg(a) },
                         else_branch = e () => (float[b,8] o) { a = CumSum(x, axis) o = Abs(a) }>"""
    source = prepared(body, "float[b,8] x, bool c", constants="int64 axis = {1}")
    kept = [node.name for graph in all_graphs([source.graph]) for node in graph if node.op_type == "CumSum"]
    model = check(to_half(source, FLOAT16, kept=kept, keep_io=False))
    assert ops(model) == ["Cast", "If"]  # of x, for both branches
    bodies = [[node.op_type for node in graph] for graph in list(all_graphs([model.graph]))[1:]]
    assert bodies == [["CumSum", "Cast", "Neg"], ["CumSum", "Cast", "Abs"]]


def test_what_was_float16_before_stays_that_in_bfloat16(prepared):
    source = prepared("a = Neg(z) b = Neg(x) y = Identity(b)", "float[b,8] x, float16[b,8] z")
    model = check(to_half(source, BFLOAT16, kept=(), keep_io=False))
    assert [node.outputs[0].dtype for node in model.graph] == [FLOAT16, BFLOAT16, BFLOAT16]


def test_masks_stay_finite(prepared):
    source = prepared("y = Add(x, m)", constants="float m = {-3.4028234e38}")
    model = to_half(source, FLOAT16, kept=(), keep_io=False)
    assert model.graph.initializers["m"].const_value.numpy() == -65504
    assert np.isfinite(ml_dtypes.bfloat16(-65504))


def test_a_given_proto_keeps_its_names(parse, tmp_path):
    proto = ir.to_proto(parse("a = CumSum(x, axis) b = Mul(a, w) y = Max(b, w)", constants=f"int64 axis = {{1}}, {W}"))
    before = proto.SerializeToString(deterministic=True)
    cast(proto, tmp_path / "cast.onnx", keep_io=True)
    assert proto.SerializeToString(deterministic=True) == before
