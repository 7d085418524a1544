"""Ops that other tools renamed, or took an output or their type from, are ours again."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx.compose
import onnx_ir as ir
import pytest

from rms_deploy.fusion.passes.restore_ops import restore_ops
from rms_deploy.ops.functions import attach_functions

TEXT = """<ir_version: 9, opset_import: ["": 20, "rms_deploy": 1]>
g (TYPE[b,8] x, TYPE[b,8] r, TYPE[8] w) => (TYPE[b,8] y) <TYPE[b,8] n> {
    n, s = rms_deploy.AddRMSNorm <scale_type = SCALE> (x, r, w)
    p = rms_deploy.PartialRMSNorm <partial_size = 4, scale_type = SCALE> (n, w)
    y = rms_deploy.RMSNorm <scale_type = SCALE> (p, w)
}"""


def fused(dtype="float", scale_type=1):
    model = ir.from_onnx_text(TEXT.replace("TYPE", dtype).replace("SCALE", str(scale_type)))
    attach_functions(model)
    return ir.to_proto(model)


def restored(proto):
    model = ir.from_proto(proto)
    return model, list(restore_ops(model).values())


def test_a_whole_model_stays_what_it_was():
    before = ir.to_proto(ir.from_proto(fused())).SerializeToString()
    model, faults = restored(fused())
    assert faults == []
    assert ir.to_proto(model).SerializeToString() == before


@pytest.mark.parametrize("prefix", ["a_", "encoder/RMSNorm."])
def test_a_prefix_of_onnx_compose(prefix, run):
    """The name of AddRMSNorm ends with that of RMSNorm."""
    proto = onnx.compose.add_prefix(fused(), prefix, rename_inputs=False, rename_outputs=False)
    model, _ = restored(proto)
    assert [node.op_type for node in model.graph] == ["AddRMSNorm", "PartialRMSNorm", "RMSNorm"]
    assert sorted(name for _, name, _ in model.functions) == ["AddRMSNorm", "PartialRMSNorm", "RMSNorm"]
    generator = np.random.default_rng(0)
    feeds = {name: generator.standard_normal(shape, np.float32) for name, shape in (("x", (3, 8)), ("r", (3, 8)))}
    feeds["w"] = np.ones(8, np.float32)
    np.testing.assert_array_equal(run(ir.to_proto(model), feeds), run(fused(), feeds))


def test_a_prefix_of_ops_that_round_the_reciprocal():
    names = ["AddRMSNormReciprocal", "PartialRMSNormReciprocal", "RMSNormReciprocal"]
    model = ir.from_onnx_text(
        re.sub("(RMSNorm)", r"\1Reciprocal", TEXT).replace("TYPE", "float16").replace("SCALE", "10")
    )
    attach_functions(model)
    model, faults = restored(onnx.compose.add_prefix(ir.to_proto(model), "a_"))
    assert [node.op_type for node in model.graph] == names
    assert sorted(name for _, name, _ in model.functions) == names
    assert faults == [f"called a_{name}" for name in names]


def test_a_prefix_without_functions():
    proto = onnx.compose.add_prefix(fused(), "a_")
    del proto.functions[:]
    model, faults = restored(proto)
    assert [node.op_type for node in model.graph] == ["AddRMSNorm", "PartialRMSNorm", "RMSNorm"]
    assert faults == ["called a_AddRMSNorm", "called a_PartialRMSNorm", "called a_RMSNorm"]


def test_two_prefixed_models_in_one():
    first, second = (onnx.compose.add_prefix(fused(), prefix) for prefix in ("a_", "b_"))
    model, _ = restored(onnx.compose.merge_models(first, second, io_map=[("a_y", "b_x")]))
    assert [node.op_type for node in model.graph] == 2 * ["AddRMSNorm", "PartialRMSNorm", "RMSNorm"]
    assert sorted(name for _, name, _ in model.functions) == ["AddRMSNorm", "PartialRMSNorm", "RMSNorm"]


def test_another_op_of_our_domain_is_left_alone():
    proto = fused()
    proto.graph.node[1].op_type = "Norm"
    proto.graph.node[2].op_type = "a_AddRMSNorm"  # which has three inputs
    model, faults = restored(proto)
    assert [node.op_type for node in model.graph] == ["AddRMSNorm", "Norm", "a_AddRMSNorm"]
    assert faults == []


@pytest.mark.parametrize(
    "node",
    [
        "y = rms_deploy.a_RMSNorm (x)",
        "y = rms_deploy.a_PartialRMSNorm (x, w)",
        'y = rms_deploy.a_RMSNorm <epsilon = "small"> (x, w)',
        "y, s = rms_deploy.a_RMSNorm (x, w)",
        "y, s, t = rms_deploy.a_AddRMSNorm (x, x, w)",
    ],
)
def test_what_no_op_of_ours_takes_is_left_alone(node):
    text = f"""<ir_version: 9, opset_import: ["": 20, "rms_deploy": 1]>
    g (float[b,8] x, float[8] w) => (float[b,8] y) {{ {node} }}"""
    assert restored(onnx.parser.parse_model(text))[1] == []


@pytest.mark.parametrize("how", ["pruned", "left out"])
def test_a_sum_that_nobody_reads(how, run):
    proto = fused()
    if how == "pruned":
        del proto.graph.node[0].output[1]
    else:
        proto.graph.node[0].output[1] = ""
    proto.graph.node[1].output[0] = proto.graph.node[2].input[0] = "n_sum"  # the name that it would get
    model, faults = restored(proto)
    assert faults == ["without its Sum"]
    assert [value.name for value in model.graph[0].outputs] == ["n", "n_sum_2"]
    feeds = {"x": np.ones((2, 8), np.float32), "r": np.ones((2, 8), np.float32), "w": np.ones(8, np.float32)}
    np.testing.assert_array_equal(run(ir.to_proto(model), feeds), run(fused(), feeds))


@pytest.mark.parametrize(("dtype", "expected"), [("float", 1), ("float16", 10), ("bfloat16", 16)])
def test_a_scale_type_that_no_longer_fits(dtype, expected):
    proto = fused(dtype, 16 if dtype == "float16" else 10)
    proto.graph.value_info.add(name="p").type.CopyFrom(proto.graph.value_info[0].type)
    model, _ = restored(proto)
    assert [node.attributes["scale_type"].value for node in model.graph] == 3 * [expected]


@pytest.mark.parametrize(
    ("op", "y"), [("AddFloat32RMSNorm", "float16"), ("AddRMSNorm", "float16"), ("AddRMSNormQuantize", "int8")]
)
def test_the_type_of_a_sum_is_that_of_the_residual(op, y):
    attributes = "<y_scale = 0.5, output_dtype = 3>" if y == "int8" else ""
    text = f"""<ir_version: 9, opset_import: ["": 20, "rms_deploy": 1]>
    g (float16[b,8] x, float[b,8] r, float16[8] w) => ({y}[b,8] y) {{ y = rms_deploy.{op} {attributes} (x, r, w) }}"""
    model, faults = restored(onnx.parser.parse_model(text))
    assert faults == ["without its Sum"]
    y, total = model.graph[0].outputs
    assert (total.name, total.dtype, total.shape) == ("y_sum", ir.DataType.FLOAT, y.shape)
