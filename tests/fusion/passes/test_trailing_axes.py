"""Why an op with trailing axes and one epsilon cannot express a norm of ours."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.fusion.passes.trailing_axes import block_of, why_not_trailing


def node_of(text, x="float[b,5,8] X"):
    header = f'<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]> g ({x}, float[8] scale) => (float[b,5,8] Y)'
    return ir.from_proto(onnx.parser.parse_model(f"{header} {{ Y = rms_deploy.{text} (X, scale) }}")).graph[0]


@pytest.mark.parametrize("axes", ["", "<axes = [-1]>", "<axes = [2]>", "<axes = [-2, -1]>", "<axes = [1, 2]>"])
def test_trailing_axes(axes):
    assert why_not_trailing(node_of(f"RMSNorm {axes}"), "Op") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("PartialRMSNorm <partial_size = 4>", "Op has no partial mean"),
        ("RMSNorm <rms_epsilon = 0.5>", "Op has no rms_epsilon, here 0.5"),
        ("RMSNorm <rms_min = 0.25>", "Op has no rms_min, here 0.25"),
        ("RMSNorm <axes = [1]>", "Op has only trailing axes, not [1]"),
        ("RMSNorm <axes = [-3, -2]>", "Op has only trailing axes, not [-3, -2]"),
    ],
)
def test_what_it_cannot_express(text, reason):
    assert why_not_trailing(node_of(text), "Op") == reason


@pytest.mark.parametrize("op", ["RMSNormReciprocal", "AddRMSNormReciprocal"])
def test_a_rounded_reciprocal(op):
    half = node_of("RMSNorm <scale_type = 10>", "float16[b,5,8] X")
    half.op_type = op
    assert why_not_trailing(half, "Op") == "Op does not round 1 / rms to a half type before x is multiplied by it"
    assert why_not_trailing(node_of("RMSNormReciprocal"), "Op") is None, "in float32 it is the plain norm"


def test_what_is_not_known_of_x():
    node = node_of("RMSNorm <axes = [2]>")
    node.inputs[0].shape = None
    assert why_not_trailing(node, "Op") == "the rank of X is not known, and axes [2] count from the front"
    node.inputs[0].type = None
    assert why_not_trailing(node, "Op") == "the type of X is not known"
    node = node_of("RMSNorm <axes = [-1]>")
    node.inputs[0].shape = None
    assert why_not_trailing(node, "Op") is None


@pytest.mark.parametrize(
    ("x", "axes", "refuses"),
    [
        ("float[2,0] X", "[-1]", True),
        ("float[2,0,n] X", "[-2, -1]", True),
        ("float[0,8] X", "[-1]", False),
        ("float[2,n] X", "[-1]", False),
    ],
)
def test_axes_without_elements(x, axes, refuses):
    node = node_of(f"RMSNorm <axes = {axes}>", x)
    node.outputs[0].shape = None
    assert (why_not_trailing(node, "Op") == "Op refuses axes without elements") is refuses


def test_the_block():
    assert block_of(node_of("RMSNorm <axes = [1, 2]>")) == (5, 8)
    assert block_of(node_of("RMSNorm <axes = [0]>")) == ()
    assert block_of(node_of("RMSNorm <axes = [3]>")) == ()
    node = node_of("RMSNorm")
    node.inputs[0].shape = None
    assert block_of(node) == (8,), "of its output"
