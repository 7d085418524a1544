"""The gated norms of transformers, as both of torch's exporters write them: one op, and the numbers of float64.

In float32 the op rounds some fifteen times: 16 eps of the element. In half types float32 is off by far less than one
ulp: an element changes by one ulp before the last product and two after it, in few elements.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any

import ml_dtypes  # noqa: F401 - gives numpy bfloat16
import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
import pytest
import torch

from rms_deploy.fusion.fuse import fuse
from rms_deploy.ops import schemas
from rms_deploy.ops.contract import OPS
from rms_deploy.ops.reference import gated_rms_norm
from rms_deploy.runtime import onnxruntime_session as runtime

from .gated_numbers import assert_near

FRONT, BEHIND, SIGMOID = "SiluGateRMSNorm", "RMSNormSiluGate", "RMSNormSigmoidGate"
WIDTH = 48


@dataclass(frozen=True)
class Module:
    """A class of transformers, and what it computes."""

    model: str
    name: str
    options: dict[str, Any]
    kind: str
    groups: int = 1
    rounds_first: bool = True


def _grouped(model: str, name: str, groups: int) -> Module:
    return Module(model, name, {"group_size": WIDTH // groups}, FRONT, groups)


def _falcon(groups: int, *, first: bool) -> Module:
    options = {"n_groups": groups, "norm_before_gate": first}
    return Module("falcon_h1", "FalconH1RMSNormGated", options, BEHIND if first else FRONT, groups, rounds_first=False)


MODULES = {
    "Mamba2": _grouped("mamba2", "MambaRMSNormGated", 1),
    "Mamba2, groups": _grouped("mamba2", "MambaRMSNormGated", 4),
    "Bamba": _grouped("bamba", "BambaRMSNormGated", 1),
    "GraniteMoeHybrid": _grouped("granitemoehybrid", "GraniteMoeHybridRMSNormGated", 1),
    "Nemotron-H": _grouped("nemotron_h", "NemotronHRMSNormGated", 4),
    "Zamba2": _grouped("zamba2", "Zamba2RMSNormGated", 2),
    "Qwen3-Next": Module("qwen3_next", "Qwen3NextRMSNormGated", {}, BEHIND),
    "Qwen3.5": Module("qwen3_5", "Qwen3_5RMSNormGated", {}, BEHIND),
    "OLMo-hybrid": Module("olmo_hybrid", "OlmoHybridRMSNormGated", {}, BEHIND),
    "Falcon-H1": _falcon(1, first=True),
    "Falcon-H1, groups": _falcon(2, first=True),
    "Falcon-H1, gate first": _falcon(2, first=False),
    "Kimi Linear": Module("kimi_linear", "KimiLinearRMSNormGated", {}, SIGMOID, rounds_first=False),
    "LaraMini": Module("lara_mini", "LaraMiniRMSNormGated", {}, BEHIND, rounds_first=False),
}
FAST = ("Mamba2", "Zamba2", "Qwen3-Next", "Falcon-H1, groups", "Kimi Linear")


def parameters():
    for name in MODULES:
        for exporter in ("dynamo", "legacy"):
            for dtype in ("float32", "float16", "bfloat16"):
                is_fast = name in FAST and (exporter, dtype) in (("dynamo", "float16"), ("legacy", "float32"))
                yield pytest.param(name, exporter, dtype, marks=[] if is_fast else [pytest.mark.slow])


def export(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], exporter: str) -> onnx.ModelProto:
    axes, file = {0: "b", 1: "s"}, io.BytesIO()
    options = {"opset_version": 18, "input_names": ["x", "z"], "output_names": ["y"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            program = torch.onnx.export(
                module, inputs, dynamo=True, dynamic_shapes=(axes, axes), verbose=False, **options
            )
            return program.model_proto
        torch.onnx.export(module, inputs, file, dynamo=False, dynamic_axes={"x": axes, "z": axes, "y": axes}, **options)
    return onnx.load_from_string(file.getvalue())


def made(name: str, dtype: str) -> torch.nn.Module:
    module = MODULES[name]
    models = pytest.importorskip(f"transformers.models.{module.model}.modeling_{module.model}")
    norm = getattr(models, module.name)(WIDTH, **module.options).eval().requires_grad_(False)
    torch.manual_seed(0)
    norm.weight.uniform_(-1.5, 1.5)
    return norm.to(getattr(torch, dtype))


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().numpy().astype(np.dtype(str(tensor.dtype).removeprefix("torch.")))


@pytest.mark.parametrize(("name", "exporter", "dtype"), list(parameters()))
def test_a_gated_norm_is_one_op(name, exporter, dtype):
    module, norm = MODULES[name], made(name, dtype)
    x, z = (torch.randn(2, 7, WIDTH).to(norm.weight.dtype) for _ in range(2))
    model = export(norm, (x, 3 * z), exporter)
    result = fuse(model)
    (fused,) = result.norms
    assert (fused.kind, fused.dtype, fused.unproven) == (module.kind, dtype, "")
    assert not result.near_misses
    if dtype != "float32":
        assert fused.rounding == ("before scale" if module.rounds_first else "once")
    left = [node.op_type for node in result.model.graph]
    if module.groups == 1:
        assert left == [module.kind]
    assert not {"Sigmoid", "Pow"} & set(left)
    assert left.count("Reshape") in (3, 4) or module.groups == 1
    proto = ir.to_proto(result.model)
    schemas.register()
    onnx.checker.check_model(proto, full_check=True)
    again = ir.to_proto(fuse(proto).model)
    assert again.SerializeToString(deterministic=True) == proto.SerializeToString(deterministic=True)
    shape = (2, 7, module.groups, WIDTH // module.groups)
    feeds = {"x": array(x), "z": array(3 * z)}
    expected = gated_rms_norm(
        feeds["x"].reshape(shape),
        feeds["z"].reshape(shape),
        array(norm.weight).reshape(shape[2:]),
        gate=OPS[module.kind].gate,
        before=module.kind == FRONT,
        round_before_scale=module.rounds_first,
    ).reshape(2, 7, WIDTH)
    assert_near(onnx.reference.ReferenceEvaluator(proto).run(None, feeds)[0], expected)
    if dtype != "bfloat16":
        assert_near(next(iter(runtime.run(runtime.session(proto), feeds).values())), expected)
    assert_near(array(norm(x, 3 * z)), expected)  # what is compared with is what the module computes
