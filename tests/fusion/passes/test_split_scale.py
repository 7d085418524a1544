"""A wide scale as a product after the norm: no number changes, in any order of rounding."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.split_scale import has_wide_scale, split_scale
from rms_deploy.ops.contract import ELEMENT_TYPES
from rms_deploy.ops.functions import attach_functions
from rms_deploy.ops.nodes import norm_nodes

from .test_lower_to_standard import feeds_of


def build(op: str, dtype: str, scale: str, scale_type: str, *, outputs: int = 1) -> ir.Model:
    residual, names = (f", {dtype}[B,4,24] r", "y, total") if outputs == 2 else ("", "y")
    declared = ", ".join(f"{dtype}[B,4,24] {name}" for name in names.split(", "))
    text = (
        '<ir_version: 10, opset_import: ["" : 18, "rms_deploy" : 1]>\n'
        f"g ({dtype}[B,4,24] x{residual}, {scale} scale) => ({declared}) {{ {names} = rms_deploy.{op} "
        f"<scale_type = {ELEMENT_TYPES[scale_type]}> (x{', r' if residual else ''}, scale) }}"
    )
    return ir.from_proto(onnx.parser.parse_model(text))


def run(model: ir.Model):
    attach_functions(model)
    return ReferenceEvaluator(ir.to_proto(model)).run(None, feeds_of(model))


@pytest.mark.parametrize("op", ["RMSNorm", "AddRMSNorm"])
@pytest.mark.parametrize(
    ("dtype", "scale", "scale_type", "operators"),
    [
        ("float", "float[4,24]", "float32", ["RMSNorm", "Mul"]),
        ("float", "float[B,1,24]", "float32", ["RMSNorm", "Mul"]),
        ("float16", "float16[4,24]", "float16", ["RMSNorm", "Mul"]),
        ("float16", "float[B,1,24]", "float16", ["RMSNorm", "Cast", "Mul"]),
        ("float16", "float[4,24]", "float32", ["Cast", "RMSNorm", "Mul", "Cast"]),
        ("bfloat16", "bfloat16[4,1]", "float32", ["Cast", "RMSNorm", "Cast", "Mul", "Cast"]),
    ],
)
def test_no_number_changes(op, dtype, scale, scale_type, operators) -> None:
    model = build(op, dtype, scale, scale_type, outputs=2 if op == "AddRMSNorm" else 1)
    before = run(model)
    (node,) = norm_nodes(model)
    assert has_wide_scale(node)
    norm = split_scale(node, NewNodes(model))
    assert norm.op_type in ("RMSNorm", "AddRMSNorm")
    if op == "AddRMSNorm":
        is_inside = operators[0] == "RMSNorm"
        operators = ["AddRMSNorm", *operators[1:]] if is_inside else ["Add", *operators]
    assert [made.op_type for made in model.graph] == operators
    after = run(model)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("scale", ["float[24]", "float[1,1,24]", "float", "float[1]"])
def test_a_scale_along_the_axes_is_not_wide(scale) -> None:
    (node,) = norm_nodes(build("RMSNorm", "float", scale, "float32"))
    assert not has_wide_scale(node)
