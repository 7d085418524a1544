# ruff: noqa: E501 - a graph a line
"""A residual stream in float32 and its norms become one op of the half type, with the roundings of the model."""

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.inspect import inspect
from rms_deploy.fusion.passes import fuse_float32_sum
from rms_deploy.fusion.passes.fuse_float32_sum import FuseFloat32Sum

from ..around_numbers import check_one, failing

CODES = {"float16": 10, "bfloat16": 16}
NUMPY = {"float": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}

CORE = "q = Mul (h, h) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (h, r)"
FIRST = "o = Cast <to = TT> (n) y = Mul (o, w)"
ONCE = "v = Cast <to = 1> (w) o = Mul (n, v) y = Cast <to = TT> (o)"
MAMBA = f"a = Cast <to = 1> (x) s = Add (a, z) c = Cast <to = TT> (s) h = Cast <to = 1> (c) {CORE} {FIRST}"
MAMBA_SSM = f"a = Cast <to = 1> (x) h = Add (a, z) {CORE} {ONCE}"
SGLANG = f"a = Cast <to = 1> (x) h = Add (z, a) {CORE} {FIRST}"
VLLM = f"a = Cast <to = 1> (x) b = Cast <to = 1> (z) h = Add (a, b) s = Cast <to = TT> (h) {CORE} {FIRST}"

CASES = {
    "Mamba": (MAMBA, "AddRMSNorm", "s", "float"),
    "mamba_ssm": (MAMBA_SSM, "AddFloat32RMSNorm", "h", "float"),
    "SGLang": (SGLANG, "AddFloat32RMSNorm", "h", "float"),
    "vLLM": (VLLM, "AddFloat32RMSNorm", "s", "half"),
    "vLLM, once": (VLLM.replace(FIRST, ONCE), "AddFloat32RMSNorm", "s", "half"),
}
"""Graph, op, name of the sum, and its type."""


def ops(result):
    return [node.op_type for node in result.model.graph]


def feeds_of(half, of_sum):
    generator = np.random.default_rng(0)
    x, z = generator.standard_normal((2, 3, 5, 64)) * 10.0 ** generator.integers(-2, 2, [2, 3, 5, 1])
    return {"x": x.astype(half), "z": z.astype(of_sum), "w": generator.uniform(-2, 2, 64).astype(half)}


def built(build, name, dtype):
    body, kind, total, of_sum = CASES[name]
    of_sum = dtype if of_sum == "half" else of_sum
    inputs = f"{dtype}[b,s,64] x, {of_sum}[b,s,64] z, {dtype}[64] w"
    outputs = f"{dtype}[b,s,64] y, {of_sum}[b,s,64] {total}"
    model = build(body.replace("TT", str(CODES[dtype])), inputs=inputs, outputs=outputs)
    return model, kind, feeds_of(NUMPY[dtype], NUMPY[of_sum])


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("name", CASES)
def test_one_op(name, dtype, build):
    model, kind, feeds = built(build, name, dtype)
    result = check_one(model, kind, feeds)
    assert ops(result) == [kind]
    assert [value.name for value in result.model.graph[0].inputs] == ["x", "z", "w"]
    assert [value.name for value in result.model.graph[0].outputs] == ["y", CASES[name][2]]
    assert result.norms[0].dtype == dtype


@pytest.mark.parametrize("name", CASES)
def test_without_residual(name, build):
    model, _, _ = built(build, name, "float16")
    assert "Add" in ops(fuse(model, residual=False))


def test_a_sum_that_others_read_in_float32_stays_float32(build):
    model, _, _ = built(build, "vLLM", "float16")
    proto = ir.from_proto(model)
    proto.graph.append(ir.node("Exp", [next(v for node in proto.graph for v in node.outputs if v.name == "h")]))
    proto.graph[-1].outputs[0].name = "j"
    proto.graph.outputs.append(proto.graph[-1].outputs[0])
    result = fuse(ir.to_proto(proto))
    (norm,) = (node for node in result.model.graph if node.op_type == "AddFloat32RMSNorm")
    assert norm.outputs[1].name == "h"
    assert {"Exp", "Cast"} <= set(ops(result))


def test_a_sum_that_nothing_else_reads(build):
    model = build(
        VLLM.replace("TT", "10"),
        inputs="float16[b,s,64] x, float16[b,s,64] z, float16[64] w",
        outputs="float16[b,s,64] y",
    )
    assert ops(fuse(model)) == ["AddFloat32RMSNorm"]


def test_the_layers_of_a_decoder(build):
    """The rounded sum of one norm is the residual of the next."""
    second = CORE
    for name in "hqmern":
        second = (
            second.replace(f"{name} =", f"{name}2 =")
            .replace(f"({name},", f"({name}2,")
            .replace(f"({name})", f"({name}2)")
            .replace(f", {name})", f", {name}2)")
        )
    body = f"{VLLM} a2 = Cast <to = 1> (y) b2 = Cast <to = 1> (s) h2 = Add (a2, b2) s2 = Cast <to = TT> (h2) {second} o2 = Cast <to = TT> (n2) y2 = Mul (o2, w)"
    inputs = "float16[b,s,64] x, float16[b,s,64] z, float16[64] w"
    result = fuse(build(body.replace("TT", "10"), inputs=inputs, outputs="float16[b,s,64] y2, float16[b,s,64] s2"))
    assert ops(result) == ["AddFloat32RMSNorm"] * 2
    first, last = result.model.graph
    assert last.inputs[1] is first.outputs[1]


KEPT = {
    "a float32 x": (
        MAMBA.replace("a = Cast <to = 1> (x)", "a = Identity (x)"),
        "float[b,s,64] x, float[b,s,64] z",
        ["Identity", "Add", "Cast", "RMSNorm"],
    ),
    "a broadcast residual": (MAMBA, "float16[b,s,64] x, float[64] z", ["Cast", "Add", "Cast", "RMSNorm"]),
    "a result in float32": (
        SGLANG.replace(FIRST, "y = Mul (n, w)"),
        "float16[b,s,64] x, float[b,s,64] z",
        ["Cast", "AddRMSNorm"],
    ),
}


@pytest.mark.parametrize(("body", "inputs", "kept"), KEPT.values(), ids=KEPT)
def test_what_stays(body, inputs, kept, build):
    dtype = "float" if "Mul (n, w)" in body else "float16"
    model = build(body.replace("TT", "10"), inputs=f"{inputs}, {dtype}[64] w", outputs=f"{dtype}[b,s,64] y")
    assert ops(fuse(model)) == kept


def test_a_float32_x_is_a_near_miss(build):
    body, inputs, _ = KEPT["a float32 x"]
    model = build(body.replace("TT", "10"), inputs=f"{inputs}, float16[64] w", outputs="float16[b,s,64] y")
    (miss,) = fuse(model).near_misses
    assert (miss.left, miss.reason) == ("residual", "the Add s stays: its sum is cast before it is normalised")


def test_below_opset_15_no_body_has_two_types(build):
    model = build(
        MAMBA.replace("TT", "10").replace("ReduceMean (q, last)", "ReduceMean <axes = [-1]> (q)"),
        inputs="float16[b,s,64] x, float[b,s,64] z, float16[64] w",
        outputs="float16[b,s,64] y, float[b,s,64] s",
        opset=14,
    )
    assert ops(fuse(model)) == ["Cast", "Add", "Cast", "RMSNorm"]


@pytest.mark.parametrize("name", ["Mamba", "vLLM"])
def test_a_failed_proof_keeps_the_sum_outside(name, build, monkeypatch):
    monkeypatch.setattr(fuse_float32_sum, "keep_proof", failing("it differs"))
    model, _, _ = built(build, name, "float16")
    result = fuse(model)
    assert "AddFloat32RMSNorm" not in ops(result)
    assert [miss.reason for miss in result.near_misses] == ["its float32 sum stays outside: it differs"]


def test_inspect_names_what_can_be_fused_again(build):
    """A file of an older version has the float32 op between casts; nothing of it is a near miss."""
    model, _, _ = built(build, "vLLM", "float16")
    assert not inspect(model).near_misses


def test_the_pass_alone():
    model = ir.from_onnx_text("""<ir_version: 9, opset_import: ["": 20, "rms_deploy": 1]>
    g (float16[b,8] x, float[b,8] z, float16[8] w) => (float16[b,8] y, float[b,8] s) {
      a = Cast <to = 1> (x)
      s = Add (a, z)
      c = Cast <to = 10> (s)
      y = rms_deploy.RMSNormReciprocal <scale_type = 10> (c, w)
    }""")
    assert FuseFloat32Sum()(model).modified
    assert [node.op_type for node in model.graph] == ["AddRMSNormReciprocal"]
    assert not FuseFloat32Sum()(model).modified
