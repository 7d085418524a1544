from __future__ import annotations

import onnx.parser
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from rms_deploy.errors import InputError
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


AROUND = """<ir_version: 8, opset_import: ["" : 13, "rms_deploy" : 1]>
    g (float16[b,8] x, {sum_type}[b,8] r, float16[8] w, float16[8] c, float[b,8] u, float[8] v)
      => ({y_type}[b,8] y, {sum_type}[b,8] t, float[b,8] y2) {{
        {node}
        y2 = rms_deploy.RMSNorm (u, v)
    }}"""


@pytest.mark.parametrize("scale_type", [1, 10])
@pytest.mark.parametrize("sum_type", ["float", "float16"])
@pytest.mark.parametrize("op", ["RMSNormShift", "AddRMSNormShift", "AddFloat32RMSNorm", "AddRMSNormQuantize"])
def test_what_stands_around_a_norm(op, sum_type, scale_type, feeds_of, assert_equal):
    """It is split off: below opset 15 a body serves one type of X and one of R."""
    attributes = f"scale_type = {scale_type}" + (", y_scale = 0.5, output_dtype = 3" if "Quantize" in op else "")
    outputs, inputs = ("y, t", "x, r, w") if op.startswith("Add") else ("y", "x, w")
    inputs += ", c" if op.endswith("Shift") else ""
    node = f"{outputs} = rms_deploy.{op} <{attributes}> ({inputs})"
    node += "" if op.startswith("Add") else " t = Identity (r)"
    types = {"sum_type": sum_type, "y_type": "int8" if "Quantize" in op else "float16"}
    assert_split(AROUND.format(node=node, **types), {"RMSNorm"}, feeds_of, assert_equal)


SUMS = """<ir_version: 8, opset_import: ["" : 13, "rms_deploy" : 1]>
    g (float16[b,8] x, float[b,8] r, float16[b,8] q, float16[8] w)
      => (float16[b,8] y, float[b,8] t, float16[b,8] y2, float16[b,8] t2) {{
        y, t = rms_deploy.{first} (x, r, w)
        y2, t2 = rms_deploy.{second} (x, q, w)
    }}"""


@pytest.mark.parametrize(
    ("first", "second", "kinds"),
    [
        ("AddRMSNorm", "AddRMSNorm", {"RMSNorm"}),
        ("AddFloat32RMSNorm", "AddFloat32RMSNorm", {"RMSNorm"}),
        ("AddRMSNorm", "AddFloat32RMSNorm", {"AddRMSNorm", "AddFloat32RMSNorm"}),
    ],
)
def test_sums_of_several_types(first, second, kinds, feeds_of, assert_equal):
    """Each op has a body of its own."""
    assert_split(SUMS.format(first=first, second=second), kinds, feeds_of, assert_equal)


def assert_split(text, kinds, feeds_of, assert_equal):
    """The ops that are left are `kinds`, and the bodies of opset 18, of any type, give the same."""
    model = onnx.parser.parse_model(text)
    fused = ir.to_proto(fuse(model, residual=False).model)
    assert {node.op_type for node in fused.graph.node if node.domain} == kinds
    feeds = feeds_of(model)
    newer = ir.from_proto(model)
    newer.opset_imports[""] = 18
    attach_functions(newer)
    expected = ReferenceEvaluator(ir.to_proto(newer)).run(None, feeds)
    assert_equal(ReferenceEvaluator(fused).run(None, feeds), expected)


def test_reciprocals_of_sums_of_several_types_are_refused():
    text = SUMS.format(first="AddRMSNormReciprocal", second="AddRMSNormReciprocal")
    with pytest.raises(InputError, match="opset 13 cannot express norms of several element types"):
        fuse(onnx.parser.parse_model(text))


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
