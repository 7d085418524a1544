"""What an export says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.exporter.result import ExportedNorm, ExportResult, exported_norms


def result(text: str, path: Path | None = None) -> ExportResult:
    model = ir.from_proto(onnx.parser.parse_model(text))
    return ExportResult(model, path, exported_norms(model))


def four_norms(dtype: str, weights: str) -> str:
    return f"""
        <ir_version: 10, opset_import: ["" : 23, "rms_deploy" : 1, "other" : 1]>
        g ({dtype}[2,4] x) => ({dtype}[2,4] y)
        <float[4] s = {{1, 2, 3, 4}}, int64[8] i = {{1, 2, 3, 4, 5, 6, 7, 8}}{weights}>
        {{
            a = rms_deploy.RMSNorm (x, s)
            b = rms_deploy.RMSNorm (a, s)
            c = RMSNormalization (b, s)
            y = other.RMSNorm (c, s)
        }}
    """


@pytest.mark.parametrize(
    ("dtype", "weights", "expected"),
    [("float", "", "float32"), ("float16", ", float16[6] w = {1, 2, 3, 4, 5, 6}", "float16")],
)
def test_lists_norms_and_takes_the_dtype_of_most_weights(dtype, weights, expected) -> None:
    exported = result(four_norms(dtype, weights), Path("m.onnx"))
    assert exported.norms == (
        ExportedNorm("RMSNorm", "fused", "a"),
        ExportedNorm("RMSNorm", "fused", "b"),
        ExportedNorm("RMSNormalization", "standard", "c"),
    )
    assert json.loads(json.dumps(exported.to_dict())) == {
        "output": "m.onnx",
        "norm_count": 3,
        "kind_count": {"RMSNorm": 2, "RMSNormalization": 1},
        "norms": [{"kind": norm.kind, "form": norm.form, "node": norm.node} for norm in exported.norms],
        "opset": 23,
        "dtype": expected,
        "cached": None,
    }


def test_norms_of_a_subgraph_count() -> None:
    text = """
        <ir_version: 10, opset_import: ["" : 18, "rms_deploy" : 1]>
        g (bool c, float[2,4] x, float[4] s) => (float[2,4] y) {
            y = If (c) <
                then_branch = p () => (float[2,4] u) { u = rms_deploy.RMSNorm (x, s) },
                else_branch = q () => (float[2,4] v) { v = Identity (x) }
            >
        }
    """
    assert result(text).count() == {"RMSNorm": 1}


def test_a_model_without_weights() -> None:
    text = '<ir_version: 8, opset_import: ["" : 18]> g (float[2] x) => (float[2] y) { y = Relu (x) }'
    exported = result(text)
    assert (exported.norms, exported.count(), exported.dtype) == ((), {}, "none")
    assert exported.to_dict()["output"] is None
