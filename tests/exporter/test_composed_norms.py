"""A shift, and a residual stream in float32, as `export` writes them: one norm, and the numbers of the module."""

from __future__ import annotations

import ml_dtypes  # noqa: F401 - gives numpy bfloat16
import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
import pytest
import torch

from rms_deploy.exporter.export import export
from rms_deploy.fusion.fuse import fuse
from rms_deploy.nn import AddRMSNorm, RMSNorm
from rms_deploy.ops import schemas
from rms_deploy.ops.ulp import ulp_distance

WIDTH = 32
SHAPES = {"scale": (2, 1, WIDTH), "shift": (2, 1, WIDTH)}

NORMS = {
    "bias": (RMSNorm, {"bias": True}, "x"),
    "bias, offset": (RMSNorm, {"bias": True, "scale_offset": 1.0}, "x"),
    "modulated": (RMSNorm, {"scale": False, "scale_offset": 1.0}, "x scale shift"),
    "shift alone": (RMSNorm, {"scale": False}, "x shift"),
    "add, bias": (AddRMSNorm, {"bias": True}, "x residual"),
    "add, modulated": (AddRMSNorm, {"scale": False, "scale_offset": 1.0}, "x residual scale shift"),
    "Mamba": (AddRMSNorm, {"residual_in_fp32": True}, "x residual:float32"),
    "Mamba, first block": (AddRMSNorm, {"residual_in_fp32": True}, "x residual"),
    "vLLM": (AddRMSNorm, {"round_before_norm": False}, "x residual"),
    "vLLM, bias": (AddRMSNorm, {"round_before_norm": False, "bias": True}, "x residual"),
    "mamba_ssm": (AddRMSNorm, {"residual_in_fp32": True, "round_before_norm": False}, "x residual:float32"),
}
FAST = {("modulated", "float16"), ("bias, offset", "float16"), ("Mamba", "bfloat16"), ("vLLM", "float16")}


KINDS = {
    **dict.fromkeys(("bias", "bias, offset", "modulated"), "RMSNormShift"),
    "shift alone": "RMSNorm",  # `export` gives shift the sizes of x: it may be a residual
    **dict.fromkeys(("add, bias", "add, modulated"), "AddRMSNormShift"),
    **dict.fromkeys(("Mamba", "Mamba, first block"), "AddRMSNorm"),
    **dict.fromkeys(("vLLM", "mamba_ssm"), "AddFloat32RMSNorm"),
}
"""The op of each in half types."""


def kind_of(name: str, dtype: str, *, first: bool) -> str:
    """The op of a norm; a float32 sum that is shifted has none of a half type."""
    if name == "vLLM, bias":
        return "AddFloat32RMSNorm" if first and dtype != "float32" else "AddRMSNormShift"
    return KINDS[name].replace("AddFloat32", "Add") if dtype == "float32" else KINDS[name]


def parameters():
    for name in NORMS:
        for dtype in ("float32", "float16", "bfloat16"):
            yield pytest.param(name, dtype, marks=[] if (name, dtype) in FAST else [pytest.mark.slow])


def made(name: str, dtype: str, *, round_before_scale: bool) -> tuple[RMSNorm, dict[str, torch.Tensor]]:
    """The module, and its inputs by name."""
    kind, options, names = NORMS[name]
    norm = kind(WIDTH, round_before_scale=round_before_scale, **options)
    torch.manual_seed(0)
    inputs = {}
    for part in names.split():
        key, _, given = part.partition(":")
        inputs[key] = torch.randn(SHAPES.get(key, (2, 7, WIDTH))).to(getattr(torch, given or dtype))
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_()
    return norm.to(getattr(torch, dtype)), inputs


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy().astype(np.dtype(str(tensor.dtype).removeprefix("torch.")))


def assert_runs_as(model: ir.Model, inputs: dict[str, torch.Tensor], expected: tuple[torch.Tensor, ...]) -> None:
    """A valid model, whose outputs differ by what float32 rounds: in half types, an ulp of an element in fifty."""
    proto = ir.to_proto(model)
    schemas.register()
    onnx.checker.check_model(proto, full_check=True)
    actual = onnx.reference.ReferenceEvaluator(proto).run(None, {key: array(inputs[key]) for key in inputs})
    for a, tensor in zip(actual, expected, strict=True):
        e, eps = array(tensor), torch.finfo(tensor.dtype).eps
        assert (a.dtype, a.shape) == (e.dtype, e.shape)
        if a.dtype.itemsize == 2:
            assert np.count_nonzero(ulp_distance(a, e)) <= a.size // 50
        np.testing.assert_allclose(a.astype(np.float64), e.astype(np.float64), rtol=16 * eps, atol=16 * eps)


@pytest.mark.parametrize("round_before_scale", [False, True], ids=["once", "first"])
@pytest.mark.parametrize(("name", "dtype"), list(parameters()))
def test_one_norm_and_the_numbers_of_the_module(name, dtype, round_before_scale):
    norm, inputs = made(name, dtype, round_before_scale=round_before_scale)
    outputs = norm(**inputs)
    expected = outputs if isinstance(outputs, tuple) else (outputs,)
    exported = export(norm, inputs=inputs)
    assert exported.count() == {kind_of(name, dtype, first=round_before_scale): 1}
    assert not {"Pow", "Sqrt", "ReduceMean"} & {node.op_type for node in exported.model.graph}
    assert_runs_as(exported.model, inputs, expected)
    for exporter in ("dynamo", "legacy"):
        spelled = export(norm, inputs=inputs, norm="decomposed", exporter=exporter)
        assert spelled.norms == ()
        assert_runs_as(spelled.model, inputs, expected)
        found = fuse(spelled.model)
        assert [each.kind for each in found.norms] == list(exported.count())
        assert_runs_as(found.model, inputs, expected)


@pytest.mark.parametrize("name", ["bias", "Mamba", "vLLM"])
def test_the_norm_of_onnx(name):
    norm, inputs = made(name, "float16", round_before_scale=True)
    exported = export(norm, inputs=inputs, norm="standard")
    assert exported.count() == {"RMSNormalization": 1}


def test_a_folded_offset_leaves_the_bias():
    norm, inputs = made("bias, offset", "float32", round_before_scale=False)
    exported = export(norm, inputs=inputs)
    assert norm.scale_offset == 1.0
    weights = [value.const_value.numpy() for value in exported.model.graph.initializers.values()]
    assert any(np.array_equal(weight, norm.scale().detach().numpy()) for weight in weights)
    assert any(np.array_equal(weight, norm.bias.detach().numpy()) for weight in weights)


def test_a_folded_offset_is_added_to_a_scale_that_is_given():
    norm = RMSNorm(WIDTH, scale_offset=1.0)
    inputs = {"x": torch.randn(2, 7, WIDTH), "scale": torch.randn(2, 1, WIDTH)}
    assert_runs_as(export(norm, inputs=inputs).model, inputs, (norm(**inputs),))
