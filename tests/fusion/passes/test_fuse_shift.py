# ruff: noqa: E501 - a graph a line
"""A norm and its shift become one op where the op rounds as the model does, and stay two where it would not."""

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.inspect import inspect
from rms_deploy.fusion.passes import fuse_shift
from rms_deploy.fusion.passes.fuse_shift import FuseShift
from rms_deploy.ops import schemas
from rms_deploy.runtime import onnxruntime_session as runtime

from ..around_numbers import check_one, failing

CODES = {"float": 1, "float16": 10, "bfloat16": 16}
NUMPY = {"float": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}

CORE = "q = Mul (h, h) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (h, r)"
SHIFTED = f"h = Identity (x) {CORE} k = Mul (n, w) y = Add (k, t)"
INPUTS = "float[b,s,8] x, float[8] w, float[8] t"
HALF_FIRST = f"h = Cast <to = 1> (x) {CORE} o = Cast <to = TT> (n) k = Mul (o, w) y = Add (k, t)"
HALF_ONCE = f"h = Cast <to = 1> (x) {CORE} v = Cast <to = 1> (w) k = Mul (n, v) u = Cast <to = 1> (t) o = Add (k, u) y = Cast <to = TT> (o)"


def ops(result):
    return [node.op_type for node in result.model.graph]


def feeds_of(dtype="float", *, shape=(3, 5, 8), of_scale=(8,), of_shift=None):
    generator = np.random.default_rng(0)
    arrays = {
        "x": generator.standard_normal(shape) * 10.0 ** generator.integers(-3, 2, [*shape[:-1], 1]),
        "z": generator.standard_normal(shape),
        "w": generator.uniform(-2, 2, of_scale),
        "t": generator.uniform(-2, 2, of_scale if of_shift is None else of_shift),
    }
    return {name: array.astype(NUMPY[dtype]) for name, array in arrays.items()}


@pytest.mark.parametrize("body", [SHIFTED, SHIFTED.replace("(k, t)", "(t, k)")])
def test_float32(body, build):
    result = check_one(build(body, inputs=INPUTS), "RMSNormShift", feeds_of())
    assert ops(result) == ["RMSNormShift"]
    assert [value.name for value in result.model.graph[0].inputs] == ["x", "w", "t"]


@pytest.mark.parametrize("dims", [("1", "8"), ("8", "1"), ("1,8", "b,1,8")], ids=str)
def test_a_half_type_where_one_is_broadcast_to_the_other(dims, build):
    """Scale and shift are taken as they were before they were cast up, in one shape."""
    inputs = f"float16[b,s,8] x, float16[{dims[0]}] w, float16[{dims[1]}] t"
    result = fuse(build(HALF_ONCE.replace("TT", "10"), inputs=inputs, outputs="float16[b,s,8] y"))
    assert [op for op in ops(result) if op not in ("Constant", "Shape")] == ["Expand", "RMSNormShift"]
    assert {value.dtype for value in result.model.graph[-1].inputs} == {ir.DataType.FLOAT16}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("body", "rounding"), [(HALF_FIRST, "before scale"), (HALF_ONCE, "once")])
def test_half_types_round_as_the_model_does(body, rounding, dtype, build):
    inputs = f"{dtype}[b,s,8] x, {dtype}[8] w, {dtype}[8] t"
    model = build(body.replace("TT", str(CODES[dtype])), inputs=inputs, outputs=f"{dtype}[b,s,8] y")
    result = check_one(model, "RMSNormShift", feeds_of(dtype))
    assert ops(result) == ["RMSNormShift"]
    assert result.norms[0].rounding == rounding


@pytest.mark.parametrize("dims", ["b,1,8", "8", "1", "s,8"])
def test_shapes_of_scale_and_shift(dims, build):
    of_scale = tuple({"b": 3, "s": 5}.get(dim) or int(dim) for dim in dims.split(","))
    model = build(SHIFTED, inputs=f"float[b,s,8] x, float[{dims}] w, float[{dims}] t")
    check_one(model, "RMSNormShift", feeds_of(of_scale=of_scale))


def test_by_token(build):
    """Scale and shift have the shape of x: the norm has no scale of its own."""
    model = build(SHIFTED, inputs="float[b,s,8] x, float[b,s,8] w, float[b,s,8] t")
    check_one(model, "RMSNormShift", feeds_of(of_scale=(3, 5, 8)))


def test_the_modulation_of_ltx_video(build):
    """norm(x) * (1 + s) + t, each step rounded to float16; 1 + s stays outside."""
    body = HALF_FIRST.replace("k = Mul (o, w)", "c = Cast <to = 10> (one) p = Add (c, w) k = Mul (o, p)").replace(
        "TT", "10"
    )
    model = build(body, inputs="float16[b,s,8] x, float16[b,1,8] w, float16[b,1,8] t", outputs="float16[b,s,8] y")
    assert ops(fuse(model))[-1] == "RMSNormShift"
    result = fuse(model)
    assert (len(result.norms), result.near_misses) == (1, ())
    assert {"Cast", "Add", "RMSNormShift"} == set(ops(result))


CHUNKS = """
    f = Shape (c) i0 = Constant <value_ints = [0]> () i2 = Constant <value_ints = [2]> () i4 = Constant <value_ints = [4]> ()
    l = Slice (f, i2, i4) u = Div (l, i2) w = Slice (c, i0, u, i2) t = Slice (c, u, l, i2)
"""
"""As torch's older exporter writes torch.chunk: no inference of shapes knows the last dims."""


def test_chunks_whose_size_is_computed(build):
    result = fuse(build(f"{CHUNKS} {SHIFTED}", inputs="float[b,s,8] x, float[b,1,16] c"))
    assert ops(result)[-1] == "RMSNormShift"
    assert not {"Mul", "Add"} & set(ops(result))
    assert [norm.unproven for norm in result.norms] == [""]


@pytest.mark.parametrize("inputs", ["float[8] w, float[b,1,8] t", "float[b,1,8] w, float[8] t"])
def test_one_of_scale_and_shift_is_broadcast_to_the_other(inputs, build):
    model = build(SHIFTED, inputs=f"float[b,s,8] x, {inputs}")
    result = fuse(model)
    assert ops(result) == ["Shape", "Expand", "RMSNormShift"]
    assert not result.near_misses
    assert not result.norms[0].unproven


def test_a_norm_without_a_scale(build):
    result = fuse(build(f"h = Identity (x) {CORE} y = Add (n, t)", inputs="float[b,s,8] x, float[8] t"))
    assert ops(result) == ["Constant", "Expand", "RMSNormShift"]
    assert not result.norms[0].unproven


@pytest.mark.parametrize("dims", ["8", "b,1,8", "1"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_norm_of_a_half_type_without_a_scale(dtype, dims, build):
    """The scale of one is float32, and the op takes scale and shift of one type."""
    body = HALF_FIRST.replace("k = Mul (o, w) y = Add (k, t)", "y = Add (o, t)").replace("TT", str(CODES[dtype]))
    model = build(body, inputs=f"{dtype}[b,s,8] x, {dtype}[{dims}] t", outputs=f"{dtype}[b,s,8] y")
    result = fuse(model)
    (node,) = (node for node in result.model.graph if node.op_type == "RMSNormShift")
    assert {value.dtype for value in node.inputs} == {ir.DataType[dtype.upper()]}
    assert not result.norms[0].unproven
    fused = ir.to_proto(result.model)
    schemas.register()
    onnx.checker.check_model(fused, full_check=True)
    runtime.session(fused)


@pytest.mark.parametrize(("dims", "is_fused"), [("1,1,8", True), ("b,1,8", False)])
def test_below_the_opset_of_expand(dims, is_fused, build):
    """A product with ones broadcasts to a static shape."""
    body = SHIFTED.replace("ReduceMean (q, last)", "ReduceMean <axes = [-1]> (q)")
    model = build(body, inputs=f"float[b,s,8] x, float[8] w, float[{dims}] t", opset=7)
    result = fuse(model)
    assert ops(result) == (["Constant", "Mul", "RMSNormShift"] if is_fused else ["RMSNorm", "Add"])
    assert [miss.reason for miss in result.near_misses] == (
        [] if is_fused else ["the shift y stays: opset 7 has no Expand for w"]
    )
    onnx.checker.check_model(ir.to_proto(result.model), full_check=True)


def test_with_a_residual(build):
    body = SHIFTED.replace("h = Identity (x)", "h = Add (x, z)")
    inputs = f"{INPUTS}, float[b,s,8] z"
    result = check_one(
        build(body, inputs=inputs, outputs="float[b,s,8] y, float[b,s,8] h"), "AddRMSNormShift", feeds_of()
    )
    assert [value.name for value in result.model.graph[0].inputs] == ["x", "z", "w", "t"]
    assert ops(fuse(build(body, inputs=inputs), shift=False)) == ["AddRMSNorm", "Add"]


def test_a_shift_that_is_computed_after_the_sum_is_read(build):
    """What computes the shift is moved to where the norm is."""
    body = f"h = Add (x, z) {CORE} k = Mul (n, w) j = Exp (h) t = Neg (v) y = Add (k, t)"
    inputs = "float[b,s,8] x, float[b,s,8] z, float[8] w, float[8] v"
    result = fuse(build(body, inputs=inputs, outputs="float[b,s,8] y, float[b,s,8] j"))
    assert ops(result) == ["Neg", "AddRMSNormShift", "Exp"]


def test_a_shift_that_is_computed_from_the_sum(build):
    body = f"h = Add (x, z) {CORE} k = Mul (n, w) j = Exp (h) seq = Constant <value_ints = [1]> () t = ReduceMean (h, seq) y = Add (k, t)"
    result = fuse(
        build(body, inputs="float[b,s,8] x, float[b,s,8] z, float[8] w", outputs="float[b,s,8] y, float[b,s,8] j")
    )
    assert {"Add", "RMSNormShift"} <= set(ops(result))
    assert [miss.left for miss in result.near_misses] == ["residual"]


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("dims", ["8", "b,s,8"])
def test_a_shift_that_is_the_sum(dims, verify, build):
    """h + norm(h) * w, where h = x + z: the op cannot read the sum that it gives."""
    body = f"h = Add (x, z) {CORE} k = Mul (n, w) y = Add (k, h)"
    inputs = f"float[{dims}] x, float[{dims}] z, float[{dims}] w"
    result = fuse(build(body, inputs=inputs, outputs=f"float[{dims}] y"), verify=verify)
    assert ops(result) == ["Add", "RMSNormShift"]
    assert [miss.left for miss in result.near_misses] == ["residual"]


def test_a_shift_that_is_computed_from_a_norm_behind(build):
    """The second norm stands before the shift of the first, on which its own shift depends."""
    second = "q2 = Mul (z, z) m2 = ReduceMean (q2, last) e2 = Add (m2, eps) r2 = Sqrt (e2) o = Div (z, r2)"
    body = f"{SHIFTED.split(' y = ')[0]} {second} l = Mul (o, v) c = Neg (t) a = Add (k, c) seq = Constant <value_ints = [1]> () d = ReduceMean (a, seq) y = Add (l, d)"
    model = build(
        body,
        inputs="float[b,s,8] x, float[b,s,8] z, float[8] w, float[b,1,8] t, float[b,1,8] v",
        outputs="float[b,s,8] y",
    )
    onnx.checker.check_model(model, full_check=True)
    result = fuse(model)
    assert ops(result) == ["Neg", "Shape", "Expand", "RMSNormShift", "Constant", "ReduceMean", "RMSNormShift"]
    onnx.checker.check_model(ir.to_proto(result.model), full_check=True)


KEPT = {
    "a residual": (SHIFTED, "float[b,s,8] x, float[8] w, float[b,s,8] t", ()),
    "a residual behind a gate": (
        SHIFTED.replace("y = Add (k, t)", "l = Mul (k, v) y = Add (l, t)"),
        "float[b,s,8] x, float[8] w, float[b,s,8] v, float[b,s,8] t",
        (),
    ),
    "a column": (
        SHIFTED,
        "float[b,s,8] x, float[8] w, float[b,s,1] t",
        ("the shift y stays: neither its shape ['b', 's', 1] nor that of the scale, [8], is proven to fit the other",),
    ),
    "read by others": (
        f"{SHIFTED} j = Exp (k)",
        INPUTS,
        ("the shift y stays: the norm is read by others too",),
    ),
    "scaled twice": (
        SHIFTED.replace("y = Add (k, t)", "l = Mul (k, v) y = Add (l, t)"),
        "float[b,s,8] x, float[8] w, float[b,1,8] v, float[b,1,8] t",
        ("the shift y stays: the norm has a scale, and l scales it again",),
    ),
}


@pytest.mark.parametrize(("body", "inputs", "reasons"), KEPT.values(), ids=KEPT)
def test_what_stays(body, inputs, reasons, build):
    outputs = "float[b,s,8] y, float[b,s,8] j" if "j =" in body else "float[b,s,8] y"
    result = fuse(build(body, inputs=inputs, outputs=outputs))
    assert not any("Shift" in op for op in ops(result))
    assert [miss.reason for miss in result.near_misses] == list(reasons)
    assert {miss.left for miss in result.near_misses} <= {"shift"}


def test_a_norm_that_is_rounded_between_its_scale_and_its_shift_stays(build):
    body = f"h = Cast <to = 1> (x) {CORE} v = Cast <to = 1> (w) k = Mul (n, v) o = Cast <to = 10> (k) y = Add (o, t)"
    model = build(body, inputs="float16[b,s,8] x, float16[8] w, float16[8] t", outputs="float16[b,s,8] y")
    result = fuse(model)
    assert ops(result) == ["RMSNorm", "Add"]
    assert [miss.left for miss in result.near_misses] == ["shift"]
    assert "rounded to a half type between its scale and the shift" in result.near_misses[0].reason
    assert [miss.left for miss in inspect(ir.to_proto(result.model)).near_misses] == ["shift"]


def test_a_layer_norm_has_no_shift_of_ours(build):
    body = f"c = ReduceMean (x, last) h = Sub (x, c) {CORE} k = Mul (n, w) y = Add (k, t)"
    assert not fuse(build(body, inputs=INPUTS)).norms


def test_a_failed_proof_keeps_the_shift_outside(build, monkeypatch):
    monkeypatch.setattr(fuse_shift, "keep_proof", failing("it differs"))
    result = fuse(build(SHIFTED, inputs=INPUTS))
    assert ops(result) == ["RMSNorm", "Add"]
    assert [miss.reason for miss in result.near_misses] == ["the shift y stays: it differs"]


def test_the_shape_of_the_norm_is_that_of_x(build):
    body = f"{SHIFTED} j = Shape (k)"
    result = fuse(build(body, inputs=INPUTS, outputs="float[b,s,8] y, int64[3] j"))
    assert sorted(ops(result)) == ["RMSNormShift", "Shape"]


def test_the_shape_of_what_is_scaled_is_that_of_x(build):
    """The scale is a chunk of unknown shape, so that the norm has none, and its Mul goes away with the shift."""
    body = f"{CHUNKS} {SHIFTED.replace('Identity (x)', 'Add (x, z)')} j = Shape (k)"
    inputs = "float[b,s,8] x, float[b,s,8] z, float[b,1,16] c"
    result = fuse(build(body, inputs=inputs, outputs="float[b,s,8] y, float[b,s,8] h, int64[3] j"))
    assert [op for op in ops(result) if op in ("AddRMSNorm", "AddRMSNormShift", "Mul")] == ["AddRMSNormShift"]
    onnx.checker.check_model(ir.to_proto(result.model), full_check=True)


def test_a_norm_whose_shape_nobody_knows(build):
    body = f"h = com.microsoft.Unknown (x) {CORE} k = Mul (n, w) y = Add (k, scale)"
    result = fuse(build(body, inputs="float[b,s,8] x, float[8] w"))
    assert [norm.kind for norm in result.norms] == ["RMSNorm"]
    assert [miss.reason for miss in result.near_misses] == ["the shift y stays: the shape of the norm is not known"]


def test_a_type_that_the_calls_of_a_function_say():
    """Whether the norm is rounded before the shift is not known."""
    model = ir.from_onnx_text("""<ir_version: 10, opset_import: ["": 21, "l": 1]>
    g (float16[2,8] x, float16[8] w, float16[8] t) => (float16[2,8] y) { y = l.F <scale_type = 10> (x, w, t) }
    <opset_import: ["": 21, "rms_deploy": 1], domain: "l"> F <scale_type> (x, w, t) => (y) {
      n = rms_deploy.RMSNorm <scale_type: int = @scale_type> (x, w)
      y = Add (n, t)
    }""")
    result = fuse(model)
    assert [norm.kind for norm in result.fused_before] == ["RMSNorm"]
    assert not result.norms


def test_the_pass_alone():
    model = ir.from_onnx_text("""<ir_version: 9, opset_import: ["": 20, "rms_deploy": 1]>
    g (float[b,8] x, float[8] w, float[8] t) => (float[b,8] y) {
      n = rms_deploy.RMSNorm (x, w)
      y = Add (n, t)
    }""")
    assert FuseShift()(model).modified
    assert [node.op_type for node in model.graph] == ["RMSNormShift"]
    assert not FuseShift()(model).modified
