"""Operators that stand for ONNX Runtime's in shape inference."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.stand_ins import put_norm_in, stand_in

STANDS = {
    "v = com.microsoft.FastGelu (x)": ["Identity"],
    "v = com.microsoft.MatMulNBits <K = 8, N = 5, bits = 4, block_size = 8> (x, scale, scale)": ["MatMul"],
    "v = com.microsoft.Unknown (x)": [],
    "v = Gelu (x)": [],  # ONNX's own, which onnx knows
}


@pytest.mark.parametrize(("body", "expected"), STANDS.items())
def test_what_stands_for_an_operator(body, expected, build):
    graph = onnx.GraphProto()
    node = ir.from_proto(build(f"{body} y = Exp (v)")).graph[0]
    assert stand_in(node, graph) is bool(expected)
    assert [made.op_type for made in graph.node] == expected
    assert [made.output[0] for made in graph.node] == ["v"] * len(expected)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("v = com.microsoft.SkipSimplifiedLayerNormalization (x, x, scale)", ("Identity", ["x"], ["v"])),
        (
            "v, m, r, t = com.microsoft.SkipSimplifiedLayerNormalization (x, x, scale)",
            ("AddRMSNorm", ["x", "x", "x"], ["v", "t"]),
        ),
        ("v = SimplifiedLayerNormalization (x, scale)", ("Identity", ["x"], ["v"])),
        ("v = LayerNormalization (x, scale)", ("LayerNormalization", ["x", "scale"], ["v"])),  # onnx knows it
        ("v = com.microsoft.FastGelu (x)", ("FastGelu", ["x"], ["v"])),
    ],
)
def test_what_stands_for_a_norm(body, expected, build):
    (node, _) = build(f"{body} y = Exp (v)").graph.node
    put_norm_in(node)
    assert (node.op_type, list(node.input), list(node.output)) == expected
    assert node.domain == {"AddRMSNorm": "rms_deploy", "FastGelu": "com.microsoft"}.get(node.op_type, "")
