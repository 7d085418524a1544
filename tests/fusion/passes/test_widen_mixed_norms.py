from __future__ import annotations

import onnx.parser
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from rms_deploy.fusion.fuse import fuse
from rms_deploy.ops.functions import attach_functions

CORE = "q = Pow (u, two) m = ReduceMean <axes = [-1]> (q) e = Add (m, eps) r = Sqrt (e) n = Div (u, r)"
WIDE = CORE
for name in "qmern":
    WIDE = WIDE.replace(f"{name} =", f"{name}2 =").replace(f"({name}", f"({name}2").replace(f", {name})", f", {name}2)")
WIDE = WIDE.replace("(u", "(z") + " y2 = Mul (n2, scale)"
FIRST = f"u = Cast <to = 1> (x) {CORE} h = Cast <to = 10> (n) y = Mul (h, g)"
ONCE = f"u = Cast <to = 1> (x) {CORE} f = Cast <to = 1> (g) k = Mul (n, f) y = Cast <to = 10> (k)"
SUM = f"t = Add (x, x) u = Cast <to = 1> (t) {CORE} h = Cast <to = 10> (n) y = Mul (g, h)"
INPUTS = "float16[b,s,8] x, float16[8] g, float[b,s,8] z"
OUTPUTS = "float16[b,s,8] y, float[b,s,8] y2"


@pytest.mark.parametrize(
    ("half", "kinds", "outputs"),
    [
        (FIRST, ["Cast", "RMSNorm", "Cast", "Mul", "RMSNorm"], OUTPUTS),
        (ONCE, ["Cast", "Cast", "RMSNorm", "Cast", "RMSNorm"], OUTPUTS),
        (SUM, ["Add", "Cast", "RMSNorm", "Cast", "Mul", "RMSNorm"], f"{OUTPUTS}, float16[b,s,8] t"),
    ],
    ids=["rounds before the scale", "rounds once", "of a sum"],
)
def test_half_norms_work_in_float32(half, kinds, outputs, build, check):
    result = check(build(f"{half} {WIDE}", inputs=INPUTS, outputs=outputs, opset=13), norms=2)
    assert [node.op_type for node in result.model.graph] == kinds


GATED = """<ir_version: 8, opset_import: ["" : 13, "rms_deploy" : 1]>
    g (float16[b,8] x, float16[b,8] z, float16[8] w, float[b,8] u, float[8] v) => (float16[b,8] y, float[b,8] y2)
    {{ y = rms_deploy.{op} <scale_type = {scale_type}> (x, z, w) y2 = rms_deploy.RMSNorm (u, v) }}"""


@pytest.mark.parametrize(
    ("op", "scale_type", "kinds"),
    [
        ("RMSNormSiluGate", 1, ["Cast", "Cast", "Cast", "RMSNormSiluGate", "Cast", "RMSNorm"]),
        ("SiluGateRMSNorm", 1, ["Cast", "Cast", "Cast", "SiluGateRMSNorm", "Cast", "RMSNorm"]),
        ("SiluGateRMSNorm", 10, ["Cast", "Cast", "SiluGateRMSNorm", "Cast", "Mul", "RMSNorm"]),
        (
            "RMSNormSiluGate",
            10,
            ["Cast", "Sigmoid", "Mul", "Cast", "RMSNorm", "Cast", "Mul", "Cast", "Mul", "Cast", "RMSNorm"],
        ),
    ],
)
def test_a_gate(op, scale_type, kinds, feeds_of, assert_equal):
    """It is split off where the norm is rounded before it."""
    model = onnx.parser.parse_model(GATED.format(op=op, scale_type=scale_type))
    result = fuse(model)
    assert not result.norms
    fused = ir.to_proto(result.model)
    assert [node.op_type for node in fused.graph.node] == kinds
    feeds = feeds_of(model)
    newer = ir.from_proto(model)
    newer.opset_imports[""] = 18
    attach_functions(newer)
    expected = ReferenceEvaluator(ir.to_proto(newer)).run(None, feeds)
    assert_equal(ReferenceEvaluator(fused).run(None, feeds), expected)
    again = fuse(fused)
    assert ir.to_proto(again.model).SerializeToString(deterministic=True) == fused.SerializeToString(deterministic=True)


@pytest.mark.parametrize("opset", [13, 15])
def test_nothing_is_widened_without_need(opset, build, check):
    """One type in an old opset, or several in one that has CastLike."""
    body, inputs, outputs = (f"{FIRST} {WIDE}", INPUTS, OUTPUTS) if opset == 15 else (FIRST, INPUTS, "float16[b,s,8] y")
    result = check(build(body, inputs=inputs, outputs=outputs, opset=opset), norms=2 if opset == 15 else 1)
    assert {node.op_type for node in result.model.graph} == {"RMSNorm"}


def test_a_rounded_reciprocal_has_a_body_of_its_own(build, check):
    reciprocal = FIRST.replace(
        "n = Div (u, r) h = Cast <to = 10> (n)", "i = Reciprocal (r) j = Cast <to = 10> (i) h = Mul (x, j)"
    )
    result = check(build(f"{reciprocal} {WIDE}", inputs=INPUTS, outputs=OUTPUTS, opset=13), norms=2)
    assert [node.op_type for node in result.model.graph] == ["RMSNormReciprocal", "RMSNorm"]


def test_without_functions_nothing_is_widened(build):
    result = fuse(build(f"{FIRST} {WIDE}", inputs=INPUTS, outputs=OUTPUTS, opset=13), functions=False)
    assert [node.op_type for node in result.model.graph] == ["RMSNorm", "RMSNorm"]
    assert result.model.graph[0].inputs[0].dtype == ir.DataType.FLOAT16
