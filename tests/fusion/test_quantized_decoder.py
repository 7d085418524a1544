"""Decoders that ONNX Runtime and ModelOpt quantise: each norm and the QuantizeLinear behind it become one op.

The codes are those of the norm and QuantizeLinear as two nodes: on a CPU they are computed by the same two kernels.
"""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rms_deploy.exporter.export import export
from rms_deploy.fusion.fuse import fuse
from rms_deploy.ops.nodes import norm_nodes
from rms_deploy.runtime import onnxruntime_session as runtime

MODELS = {
    "llama-tiny": {"RMSNormQuantize": 1, "AddRMSNormQuantize": 4},
    "llama-qknorm-tiny": {"RMSNorm": 4, "RMSNormQuantize": 1, "AddRMSNormQuantize": 4},
    "t5-encoder-tiny": {"AddRMSNorm": 1, "RMSNormQuantize": 1, "AddRMSNormQuantize": 3},
}
"""The norms of each once it is quantised and fused."""


def feeds_of(path: Path, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    sizes = {"batch": 2, "sequence": 16}
    return {
        value.name: generator.integers(
            0, 60, [dim.dim_value or sizes[dim.dim_param] for dim in value.type.tensor_type.shape.dim]
        )
        for value in onnx.load(path, load_external_data=False).graph.input
    }


def by_onnxruntime(path: Path, out: Path, **options: object) -> None:
    """Static QDQ of the MatMuls, with symmetric activations."""
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = itertools.chain([feeds_of(path, 1), feeds_of(path, 2)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    kind = quantization.QuantType.QInt8
    quantization.quantize_static(
        path,
        out,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"],
        **{"activation_type": kind, "weight_type": kind, "extra_options": {"ActivationSymmetric": True}, **options},
    )


def by_modelopt(path: Path, out: Path, mode: str) -> None:
    quantize = pytest.importorskip("modelopt.onnx.quantization").quantize
    options = {"calibration_eps": ["cpu"], "high_precision_dtype": "fp32", "log_level": "ERROR"}
    quantize(str(path), quantize_mode=mode, calibration_data=feeds_of(path, 1), output_path=str(out), **options)


def check(path: Path, kinds: dict[str, int]) -> None:
    """The model at `path` has these norms once it is fused, and the outputs that it has with QuantizeLinear outside."""
    result, apart = fuse(path), fuse(path, quantization=False)
    assert Counter(node.op_type for node in norm_nodes(result.model)) == kinds
    assert not result.near_misses
    assert not [node for node in norm_nodes(apart.model) if "Quantize" in node.op_type]
    before, after = (runtime.run(runtime.session(ir.to_proto(each.model)), feeds_of(path)) for each in (apart, result))
    assert {name: array.tobytes() for name, array in after.items()} == {name: a.tobytes() for name, a in before.items()}


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        pytest.param(name, norm, marks=() if (name, norm) == ("llama-tiny", "decomposed") else pytest.mark.slow)
        for name in MODELS
        for norm in ("fused", "decomposed")
    ],
)
def test_by_onnxruntime(name, norm, tmp_path) -> None:
    """Norms of q and k, and the last one of T5, are not quantised: no MatMul of a weight reads them."""
    model, quantized = tmp_path / "model.onnx", tmp_path / "quantized.onnx"
    export(name, model, norm=norm)
    by_onnxruntime(model, quantized)
    check(quantized, MODELS[name])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["int8", "fp8"])
@pytest.mark.parametrize("name", MODELS)
def test_by_modelopt(name, mode, tmp_path) -> None:
    pytest.importorskip("modelopt.onnx.quantization")
    model, quantized = tmp_path / "model.onnx", tmp_path / "quantized.onnx"
    export(name, model)
    by_modelopt(model, quantized, mode)
    check(quantized, MODELS[name])


@pytest.mark.slow
@pytest.mark.parametrize("target", [3, 17], ids=["int8", "float8e4m3fn"])
@pytest.mark.parametrize("residual", [False, True], ids=["norm", "add-norm"])
def test_ten_million_codes(residual, target) -> None:
    """In one op, as from two nodes."""
    values, call = ("x, r", "y, h = rms_deploy.AddRMSNorm") if residual else ("x", "y = rms_deploy.RMSNorm")
    model = ir.from_onnx_text(f"""<ir_version: 10, opset_import: ["": 21, "rms_deploy": 1]>
    g ({", ".join(f"float[b,4096] {name}" for name in values.split(", "))}, float[4096] w) => (float[b,4096] d) {{
        {call} ({values}, w)
        s = Constant <value_float = 0.031> ()
        z0 = Constant <value_float = 0.0> ()
        z = Cast <to = {target}> (z0)
        q = QuantizeLinear (y, s, z)
        d = DequantizeLinear (q, s, z)
    }}""")
    generator = np.random.default_rng(0)
    feeds = {name: generator.standard_normal((2560, 4096), np.float32) for name in values.split(", ")}
    feeds["w"] = generator.standard_normal(4096, np.float32)
    two, one = (ir.to_proto(fuse(model, quantization=quantization).model) for quantization in (False, True))
    assert "QuantizeLinear" not in [node.op_type for node in one.graph.node]
    (before,), (after,) = (runtime.run(runtime.session(each), feeds).values() for each in (two, one))
    assert before.size > 10**7
    np.testing.assert_array_equal(before, after)
