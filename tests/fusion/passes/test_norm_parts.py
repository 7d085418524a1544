"""The nodes that a norm is split into have its notes, and values have types and shapes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.norm_parts import NormParts, rounds_first
from rms_deploy.ops.contract import ELEMENT_TYPES, RMS_NORM
from rms_deploy.ops.nodes import norm_nodes

from .one_norm import SIZE, one_norm, operators


def test_values_have_types_and_shapes_and_nodes_have_notes() -> None:
    model = one_norm("RMSNorm", "float16", epsilon=0.25)
    (node,) = norm_nodes(model)
    node.metadata_props["note"] = "from here"
    node.meta["proof"] = "run"
    parts = NormParts(node, NewNodes(model))
    x, scale = node.inputs
    wide = parts.cast(x, ir.DataType.FLOAT)
    assert parts.cast(wide, ir.DataType.FLOAT) is wide
    weight = parts.cast(scale, ir.DataType.FLOAT)
    norm = parts.norm(RMS_NORM, wide, weight)
    half = parts.constant(np.array(0.5, np.float32))
    y = parts.cast(parts.add("Mul", norm.outputs[0], half), ir.DataType.FLOAT16)
    parts.settle(y)
    assert operators(model) == ["Cast", "Cast", "RMSNorm", "Mul", "Cast"]
    assert [value.dtype.name for value in (wide, weight, norm.outputs[0], half, y)] == [*4 * ["FLOAT"], "FLOAT16"]
    assert [str(value.shape) for value in (wide, weight, half, y)] == ["[B,4,24]", f"[{SIZE}]", "[]", "[B,4,24]"]
    assert (norm.name, norm.attributes["epsilon"].value, norm.meta["proof"]) == ("the_norm", 0.25, "run")
    assert {made.metadata_props["note"] for made in model.graph} == {"from here"}
    assert model.graph.outputs[0] is y
    assert y.name == "Y"


@pytest.mark.parametrize(
    ("dtype", "scale_type", "expected"),
    [("float32", "float32", False), ("float16", "float32", False), ("float16", "float16", True)],
)
def test_which_norms_round_first(dtype, scale_type, expected) -> None:
    (node,) = norm_nodes(one_norm("RMSNorm", dtype, scale_type=ELEMENT_TYPES[scale_type]))
    assert rounds_first(node) is expected


@pytest.mark.parametrize(
    ("scale_type", "expected"),
    [("float32", ["Cast", "Cast", "RMSNorm", "Cast"]), ("bfloat16", ["Cast", "RMSNorm", "Cast", "Mul"])],
)
def test_a_norm_of_float32_is_rounded_as_the_old_one(scale_type, expected) -> None:
    model = one_norm("RMSNorm", "bfloat16", scale_type=ELEMENT_TYPES[scale_type])
    (node,) = norm_nodes(model)
    parts = NormParts(node, NewNodes(model))
    norm, y = parts.scaled(RMS_NORM, parts.cast(node.inputs[0], ir.DataType.FLOAT))
    parts.settle(y)
    assert operators(model) == expected
    assert "scale_type" not in norm.attributes
    assert (norm.inputs[1].name == "rms_deploy_unit_scale") is ("Mul" in expected)
