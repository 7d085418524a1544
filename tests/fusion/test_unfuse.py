"""`unfuse`: primitives that compute the same, and that `fuse` takes again."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.unfuse import unfuse
from rms_deploy.ops.contract import OPS

from .passes.one_norm import assert_same, one_norm, operators
from .passes.one_norm import run as run_bodies
from .spellings import assert_near


def test_it_computes_the_same_and_fuses_again(spelled, run, feeds_of):
    fused = fuse(spelled)
    primitives = unfuse(fused.model)
    assert len(primitives.norms) == 1
    proto = ir.to_proto(primitives.model)
    assert {node.domain for node in proto.graph.node} == {""}
    assert not proto.functions
    assert [o.domain for o in proto.opset_import if o.domain == "rms_deploy"] == []
    onnx.checker.check_model(proto, full_check=True)
    assert [v.name for v in proto.graph.output] == [v.name for v in spelled.graph.output]
    assert_near(run(proto, feeds_of(spelled)), run(spelled, feeds_of(spelled)))
    again = fuse(primitives.model)
    described = [(n.kind, n.axes, n.n, n.epsilon, n.rms_epsilon, n.rms_min, n.partial_size) for n in again.norms]
    assert described == [
        (n.kind, n.axes, n.n, n.epsilon, n.rms_epsilon, n.rms_min, n.partial_size) for n in fused.norms
    ]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "order",
    ["n = Div (u, r) h = DOWN (n) y = Mul (h, g)", "n = Div (u, r) k = Cast <to = 1> (g) o = Mul (n, k) y = DOWN (o)"],
)
def test_it_keeps_the_order_of_rounding(dtype, order, build, run, feeds_of, assert_equal):
    down = f"Cast <to = {10 if dtype == 'float16' else 16}>"
    body = "u = Cast <to = 1> (x) q = Mul (u, u) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) " + order
    model = build(body.replace("DOWN", down), inputs=f"{dtype}[b,s,8] x, {dtype}[8] g", outputs=f"{dtype}[b,s,8] y")
    fused = fuse(model)
    primitives = ir.to_proto(unfuse(fused.model).model)
    assert_equal(run(primitives, feeds_of(model)), run(model, feeds_of(model)))
    assert fuse(primitives).norms[0].rounding == fused.norms[0].rounding


def test_the_model_is_no_part_of_what_is_printed(build):
    model = build("y = rms_deploy.RMSNorm (x, scale)")
    model.opset_import.add(domain="rms_deploy", version=1)
    for result in (unfuse(model), fuse(model)):
        assert result.model is not None
        assert "model=" not in repr(result)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("op", OPS)
def test_every_norm_becomes_primitives(op, dtype):
    model = one_norm(op, dtype, sum_dtype="float32")
    expected = run_bodies(model)
    result = unfuse(model)
    assert [norm.kind for norm in result.norms] == [op]
    assert not result.model.functions
    assert {node.domain for node in result.model.graph} == {""}
    assert ("QuantizeLinear" in operators(result.model)) is OPS[op].is_quantized
    assert_same(run_bodies(result.model), expected)
