"""Norms with a shift, a modulation or a float32 residual stream, as both of torch's exporters write them.

`fuse` finds each norm, and the fused model is as near to float64 as the module is: what either rounds, its element
type decides, so the larger of two errors of one size is at most some times the other. In float32 both add up 48
products in orders of their own.
"""

from __future__ import annotations

import contextlib
import io
import warnings

import ml_dtypes  # noqa: F401 - gives numpy bfloat16
import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
import pytest
import torch

from rms_deploy.fusion.fuse import fuse
from rms_deploy.ops import schemas

from .shifted_modules import MODULES, inputs_of, made

FAST = {
    ("LTX-Video", "dynamo", "float16"),
    ("diffusers, bias", "legacy", "float32"),
    ("Mamba", "dynamo", "bfloat16"),
    ("mamba_ssm", "legacy", "float16"),
    ("vLLM decoder", "dynamo", "float16"),
    ("T5", "legacy", "float16"),
}


UNPROVEN = {("ACE-Step", "legacy"): ("RMSNorm", "RMSNorm"), ("Krea 2", "dynamo"): ("RMSNorm", "RMSNorm")}
"""Exports whose shapes are not known well enough for a residual, and the norms that are found."""


def parameters():
    for name, module in MODULES.items():
        for exporter in module.exporters:
            for dtype in ("float32", "float16", "bfloat16"):
                marks = [] if (name, exporter, dtype) in FAST else [pytest.mark.slow]
                yield pytest.param(name, exporter, dtype, marks=marks)


def export(name: str, exporter: str, dtype: torch.dtype) -> onnx.ModelProto:
    module, inputs = made(name, dtype), inputs_of(name, dtype)
    axes = {
        key: {axis: size for axis, size in enumerate(shape) if isinstance(size, str)}
        for key, shape in MODULES[name].shapes.items()
    }
    file = io.BytesIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            program = torch.onnx.export(
                module, (), kwargs=inputs, dynamo=True, dynamic_shapes=axes, opset_version=18, verbose=False
            )
            return program.model_proto
        options = {"input_names": list(inputs), "dynamic_axes": axes, "opset_version": 18}
        torch.onnx.export(module, tuple(inputs.values()), file, dynamo=False, **options)
    return onnx.load_from_string(file.getvalue())


def outputs(name: str, dtype: torch.dtype, *, computed_in: torch.dtype) -> list[np.ndarray]:
    """Of the module, whose weights and inputs are those of `dtype`."""
    inputs = {
        key: tensor.to(computed_in) if tensor.is_floating_point() and computed_in != dtype else tensor
        for key, tensor in inputs_of(name, dtype).items()
    }
    given = made(name, dtype).to(computed_in)(**inputs)
    return [tensor.double().numpy() for tensor in (given if isinstance(given, tuple) else (given,))]


def feeds(name: str, dtype: torch.dtype) -> dict[str, np.ndarray]:
    arrays = {}
    for key, tensor in inputs_of(name, dtype).items():
        kind = np.dtype(str(tensor.dtype).removeprefix("torch."))
        arrays[key] = tensor.double().numpy().astype(kind)
    return arrays


@pytest.mark.parametrize(("name", "exporter", "dtype"), list(parameters()))
def test_every_norm_is_found_and_as_exact_as_the_module(name, exporter, dtype):
    pytest.importorskip("transformers")
    kind = getattr(torch, dtype)
    result = fuse(export(name, exporter, kind))
    kinds = UNPROVEN.get((name, exporter), MODULES[name].kinds)
    if dtype == "float32":  # a float32 sum is not rounded
        kinds = [kind.replace("AddFloat32", "Add") for kind in kinds]
    assert [norm.kind for norm in result.norms] == list(kinds)
    assert bool(result.near_misses) == bool(MODULES[name].left or (name, exporter) in UNPROVEN)
    assert {miss.left for miss in result.near_misses} <= {"shift", "residual"}
    assert not [norm for norm in result.norms if norm.unproven]
    proto = ir.to_proto(result.model)
    schemas.register()
    onnx.checker.check_model(proto, full_check=True)
    given = feeds(name, kind)
    names = [value.name for value in proto.graph.input]
    actual = onnx.reference.ReferenceEvaluator(proto).run(None, {key: given[key] for key in names})
    exact = outputs(name, kind, computed_in=torch.float64)
    module = outputs(name, kind, computed_in=kind)
    for a, m, e in zip(actual, module, exact, strict=True):
        assert a.shape == e.shape
        unit = torch.finfo(kind).eps * np.abs(e).max()
        assert np.abs(a.astype(np.float64) - e).max() <= 2 * np.abs(m - e).max() + unit * (
            4 if dtype == "float32" else 1
        )
