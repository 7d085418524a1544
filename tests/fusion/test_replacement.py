"""The op of our domain for a match."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rms_deploy.fusion.grammar.search import search
from rms_deploy.fusion.replacement import explicit_attributes, replacement_for
from rms_deploy.onnx_model.analysis import Facts

WIDE = "u = Cast <to = 1> (x) q = Mul (u, u) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (u, r)"
FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
ENDS = {
    # name: (end of the norm, type of y), (type of the op, type in which it scales, x, scale)
    "rounds, then scales": ("h = Cast <to = 10> (n) y = Mul (h, g)", "float16", (HALF, HALF, "x", "g")),
    "scales, then rounds": (
        "w = Cast <to = 1> (g) k = Mul (n, w) y = Cast <to = 10> (k)",
        "float16",
        (HALF, FLOAT, "x", "g"),
    ),
    "ends in float32": ("y = Mul (n, scale)", "float", (FLOAT, FLOAT, "u", "scale")),
    "without a scale": ("y = Cast <to = 10> (n)", "float16", (HALF, FLOAT, "x", None)),
}


@pytest.mark.parametrize(("end", "dtype", "expected"), ENDS.values(), ids=ENDS)
def test_the_type_of_the_op(end, dtype, expected, build):
    proto = build(f"{WIDE} {end}", inputs="float16[b,s,8] x, float16[8] g", outputs=f"{dtype}[b,s,8] y")
    model = ir.from_proto(proto)
    facts = Facts(model)
    (match,) = search(next(node for node in model.graph if node.op_type == "ReduceMean"), facts).matches
    op = replacement_for(match, facts)
    scale = None if op.scale is None else op.scale.name
    assert (op.op_type, op.dtype, op.attributes["scale_type"], op.x.name, scale) == ("RMSNorm", *expected)
    assert not op.needs_cast(facts)
    assert not op.scale_needs_cast(facts)


def test_attributes_of_the_default_are_left_out():
    """1e-6 is another number in float64 than in the float32 of the file."""
    given = {"axes": (-1,), "epsilon": 9.999999974752427e-07, "rms_epsilon": 0.0, "rms_min": 0.5, "scale_type": 10}
    assert {attribute.name for attribute in explicit_attributes("RMSNorm", given)} == {"rms_min", "scale_type"}
