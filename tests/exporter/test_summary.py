"""The line that an export ends with."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.exporter.summary import summarize


def model(dtype: str, weights: str) -> ir.Model:
    text = f"""
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
    return ir.from_proto(onnx.parser.parse_model(text))


@pytest.mark.parametrize(
    ("dtype", "weights", "expected"),
    [("float", "", "float32"), ("float16", ", float16[6] w = {1, 2, 3, 4, 5, 6}", "float16")],
)
def test_counts_norms_and_takes_the_dtype_of_most_weights(dtype, weights, expected) -> None:
    summary = summarize(model(dtype, weights))
    assert summary.norms == {"RMSNorm": 2, "RMSNormalization": 1}
    assert summary.to_dict() == {"norms": summary.norms, "opset": 23, "dtype": expected}


def test_a_model_without_weights() -> None:
    text = '<ir_version: 8, opset_import: ["" : 18]> g (float[2] x) => (float[2] y) { y = Relu (x) }'
    summary = summarize(ir.from_proto(onnx.parser.parse_model(text)))
    assert (summary.norms, summary.dtype) == ({}, "none")
