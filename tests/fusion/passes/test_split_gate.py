"""A gate beside its norm: no number changes, in any order of rounding."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.passes.lower_to_onnxruntime import LowerToOnnxRuntime
from rms_deploy.fusion.passes.lower_to_standard import LowerToStandard
from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.split_gate import split_gate
from rms_deploy.fusion.proof.reference_ops import NEW_OPS
from rms_deploy.ops.contract import ELEMENT_TYPES
from rms_deploy.ops.functions import attach_functions
from rms_deploy.ops.nodes import norm_nodes

OPS = ("RMSNormSiluGate", "SiluGateRMSNorm", "RMSNormSigmoidGate")
CASES = [
    ("float", "float[24]", "float32"),
    ("float16", "float16[24]", "float16"),
    ("float16", "float[24]", "float16"),
    ("float16", "float16[24]", "float32"),
    ("float16", "float[4,24]", "float32"),
    ("bfloat16", "bfloat16[4,24]", "bfloat16"),
    ("bfloat16", "float[1]", "float32"),
]
GATE = {
    ("RMSNormSiluGate", "float"): ["Sigmoid", "Mul", "RMSNorm", "Mul"],
    ("SiluGateRMSNorm", "float"): ["Sigmoid", "Mul", "Mul", "RMSNorm"],
    ("RMSNormSigmoidGate", "float"): ["Sigmoid", "RMSNorm", "Mul"],
}


def build(op: str, dtype: str, scale: str, scale_type: str, opset: int = 18) -> ir.Model:
    text = (
        f'<ir_version: 10, opset_import: ["" : {opset}, "rms_deploy" : 1]>\n'
        f"g ({dtype}[B,4,24] x, {dtype}[B,4,24] z, {scale} scale) => ({dtype}[B,4,24] y) {{ y = rms_deploy.{op} "
        f"<scale_type = {ELEMENT_TYPES[scale_type]}, epsilon = 0.01> (x, z, scale) }}"
    )
    return ir.from_proto(onnx.parser.parse_model(text))


def run(model: ir.Model):
    attach_functions(model)
    generator, feeds = np.random.default_rng(0), {}
    for value in model.graph.inputs:
        shape = [dim if isinstance(dim, int) else 3 for dim in value.shape]
        feeds[value.name] = (3 * generator.standard_normal(shape)).astype(value.dtype.numpy())
    return ReferenceEvaluator(ir.to_proto(model), new_ops=NEW_OPS).run(None, feeds)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("dtype", "scale", "scale_type"), CASES)
def test_no_number_changes(op, dtype, scale, scale_type) -> None:
    model = build(op, dtype, scale, scale_type)
    (before,) = run(model)
    (node,) = norm_nodes(model)
    norm = split_gate(node, NewNodes(model))
    assert norm.op_type == "RMSNorm"
    assert [made.op_type for made in model.graph if made.op_type != "Cast"][: len(GATE[op, "float"])] == GATE[
        op, "float"
    ]
    assert model.graph[-1].outputs[0].name == "y"
    (after,) = run(model)
    assert before.tobytes() == after.tobytes()


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("dtype", "scale", "scale_type"), CASES)
def test_the_split_is_fused_again(op, dtype, scale, scale_type) -> None:
    model = build(op, dtype, scale, scale_type)
    (before,) = run(model)
    (node,) = norm_nodes(model)
    split_gate(node, NewNodes(model))
    result = fuse(model)
    assert [norm.kind for norm in result.norms] == [op]
    assert run(result.model)[0].tobytes() == before.tobytes()


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("dtype", "scale", "scale_type"), CASES)
def test_as_the_norm_of_onnx(op, dtype, scale, scale_type) -> None:
    model = build(op, dtype, scale, scale_type, opset=23)
    (before,) = run(model)
    assert LowerToStandard()(model).modified
    assert "RMSNormalization" in [node.op_type for node in model.graph]
    assert not any(True for _ in norm_nodes(model))
    assert run(model)[0].tobytes() == before.tobytes()


@pytest.mark.parametrize("op", OPS)
def test_as_the_norm_of_onnx_runtime(op) -> None:
    model = build(op, "float16", "float16[24]", "float32")
    (before,) = run(model)
    assert LowerToOnnxRuntime()(model).modified
    assert "SimplifiedLayerNormalization" in [node.op_type for node in model.graph]
    assert not any(True for _ in norm_nodes(model))
    assert run(model)[0].tobytes() == before.tobytes()


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("lower", [LowerToStandard, LowerToOnnxRuntime])
def test_what_they_cannot_express_keeps_its_gate(op, lower, caplog) -> None:
    model = build(op, "float", "float[24]", "float32", opset=23)
    (node,) = norm_nodes(model)
    node.attributes["rms_min"] = ir.AttrFloat32("rms_min", 0.5)
    assert not lower()(model).modified
    assert [node.op_type for node in model.graph] == [op]
    assert "has no rms_min" in caplog.text
