"""Norms as torch's exporters write them, and `fuse` on files."""

from __future__ import annotations

import json
import warnings

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from rms_deploy.errors import ModelFileError, OutputError
from rms_deploy.fusion.fuse import fuse

EPSILON = 3e-5


class Norm(nn.Module):
    """One RMSNorm in the spelling of a well-known code base."""

    def __init__(self, spelling, dtype, size=16):
        super().__init__()
        self.spelling = spelling
        self.weight = nn.Parameter(torch.linspace(-1.5, 1.7, size).to(dtype))

    def forward(self, x):
        return getattr(self, self.spelling)(x)

    def torch(self, x):
        return nn.functional.rms_norm(x, (x.shape[-1],), self.weight, EPSILON)

    def llama(self, x):
        h = x.to(torch.float32)
        h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + EPSILON)
        return self.weight * h.to(x.dtype)

    def gemma(self, x):
        h = x.float()
        h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + EPSILON)
        return (h * (1.0 + self.weight.float())).type_as(x)

    def t5(self, x):
        variance = x.to(torch.float32).pow(2).mean(-1, keepdim=True)
        h = x * torch.rsqrt(variance + EPSILON)
        return self.weight * h.to(self.weight.dtype)

    def divided(self, x):
        h = x.float()
        rms = torch.sqrt(torch.mean(h * h, dim=-1, keepdim=True) + EPSILON)
        return (h / rms).to(x.dtype) * self.weight

    def weightless(self, x):
        h = x.float()
        return (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + EPSILON)).to(x.dtype)


class Block(nn.Module):
    """Pre-norm residual block with a final norm: three norms, two of them of a sum."""

    def __init__(self, spelling, dtype, size=16):
        super().__init__()
        self.norms = nn.ModuleList(Norm(spelling, dtype, size) for _ in range(3))
        self.layers = nn.ModuleList(nn.Linear(size, size, bias=False, dtype=dtype) for _ in range(2))

    def forward(self, x):
        for norm, layer in zip(self.norms, self.layers, strict=False):
            x = x + layer(norm(x))
        return self.norms[2](x)


def exported(module, tmp_path, dtype, exporter, opset):
    x = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    path = tmp_path / "model.onnx"
    module = module.eval().requires_grad_(False)
    with warnings.catch_warnings():  # torch's exporters warn of their own parts
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            shapes = ({0: "b", 1: "s"},)
            torch.onnx.export(
                module, (x,), path, dynamo=True, opset_version=opset, dynamic_shapes=shapes, verbose=False
            )
        else:
            axes = {"x": {0: "b", 1: "s"}}
            torch.onnx.export(
                module, (x,), path, dynamo=False, opset_version=opset, input_names=["x"], dynamic_axes=axes
            )
    return onnx.load(path)


DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
EXPORTERS = [("dynamo", 18), ("legacy", 17)]


SPELLINGS = [
    (spelling, exporter, opset, dtype)
    for spelling in ("torch", "llama", "gemma", "t5", "divided", "weightless")
    for exporter, opset in EXPORTERS
    for dtype in DTYPES
    if (spelling, exporter) != ("torch", "legacy")  # it has no aten::rms_norm
    if dtype != "bfloat16" or spelling in ("llama", "gemma")
]


@pytest.mark.parametrize(("spelling", "exporter", "opset", "dtype"), SPELLINGS)
def test_spellings_of_torch(spelling, exporter, opset, dtype, tmp_path, check):
    result = check(exported(Norm(spelling, DTYPES[dtype]), tmp_path, DTYPES[dtype], exporter, opset))
    (norm,) = result.norms
    assert norm.epsilon == float(np.float32(EPSILON))
    assert norm.n == 16
    once = spelling in ("gemma", "torch", "weightless")
    if (spelling, exporter) != ("t5", "dynamo"):
        assert (norm.dtype, norm.rounding) == (
            dtype,
            None if dtype == "float32" else "once" if once else "before scale",
        )
    assert {node.op_type for node in result.model.graph} <= {"RMSNorm", "Cast", "Add", "Constant"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("exporter", "opset"), EXPORTERS)
def test_residual_blocks(exporter, opset, dtype, tmp_path, check):
    model = exported(Block("llama", DTYPES[dtype]), tmp_path, DTYPES[dtype], exporter, opset)
    result = check(model, norms=3, through_layers=True)
    assert [norm.kind for norm in result.norms] == ["RMSNorm", "AddRMSNorm", "AddRMSNorm"]


@pytest.mark.parametrize("spelling", ["torch", "llama", "gemma"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_torch_writes_at_opset_23(spelling, dtype, tmp_path):
    """RMSNormalization, sometimes of two types, which no evaluator takes; so only the result is looked at."""
    model = exported(Norm(spelling, DTYPES[dtype]), tmp_path, DTYPES[dtype], "dynamo", 23)
    assert "RMSNormalization" in [node.op_type for node in model.graph.node]
    result = fuse(model)
    assert [node.op_type for node in result.model.graph] == ["RMSNorm"]
    assert result.norms[0].dtype == dtype
    onnx.checker.check_model(ir.to_proto(result.model), full_check=True)


@pytest.fixture
def file(tmp_path, build):
    body = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, scale)"
    path = tmp_path / "in.onnx"
    onnx.save(build(body), path)
    return path


def test_from_file_to_file(file, tmp_path):
    fuse(file, tmp_path / "out.onnx")
    model = onnx.load(tmp_path / "out.onnx")
    assert [node.op_type for node in model.graph.node] == ["RMSNorm"]
    assert [function.name for function in model.functions] == ["RMSNorm"]
    assert [node.op_type for node in onnx.load(file).graph.node].count("ReduceMean") == 1


def test_a_file_may_replace_itself(file):
    fuse(file, file)
    first = file.read_bytes()
    fuse(file, file)
    assert file.read_bytes() == first


def test_given_models_are_not_changed(file):
    proto = onnx.load(file)
    before = proto.SerializeToString(deterministic=True)
    fuse(proto)
    assert proto.SerializeToString(deterministic=True) == before
    model = ir.load(file)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    assert fuse(model).model is not model
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_external_data_is_neither_copied_nor_lost(file, tmp_path):
    model = onnx.load(file)
    for tensor in model.graph.initializer:  # only raw data can be external
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
    onnx.save_model(model, tmp_path / "external.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    data = (tmp_path / "w.bin").read_bytes()
    fuse(tmp_path / "external.onnx", tmp_path / "out.onnx")
    assert (tmp_path / "w.bin").read_bytes() == data
    (scale,) = onnx.load(tmp_path / "out.onnx", load_external_data=False).graph.initializer
    assert (scale.name, scale.data_location, scale.external_data[0].value) == ("scale", 1, "w.bin")
    np.testing.assert_array_equal(
        onnx.numpy_helper.to_array(onnx.load(tmp_path / "out.onnx").graph.initializer[0]),
        onnx.numpy_helper.to_array(next(i for i in onnx.load(file).graph.initializer if i.name == "scale")),
    )


def test_the_result_as_json(file):
    result = json.loads(json.dumps(fuse(file).to_dict()))
    assert (result["norm_count"], result["fused_before_count"], result["near_miss_count"]) == (1, 0, 0)
    assert (len(result["norms"]), result["fused_before"], result["near_misses"]) == (1, [], [])
    assert result["norms"][0]["kind"] == "RMSNorm"


def test_what_was_fused_before_is_listed(file):
    again = fuse(fuse(file).model)
    assert (again.norms, len(again.fused_before), again.near_misses) == ((), 1, ())


def test_a_model_without_norms_stays_what_it_was(build):
    model = build("y = Exp (x)")
    result = fuse(model)
    assert (result.norms, result.fused_before, result.near_misses) == ((), (), ())
    assert ir.to_proto(result.model).SerializeToString() == ir.to_proto(ir.from_proto(model)).SerializeToString()


def test_errors(file, tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        fuse(tmp_path / "missing.onnx")
    with pytest.raises(OutputError, match="is a directory"):
        fuse(file, tmp_path)
    with pytest.raises(OutputError, match="does not exist"):
        fuse(file, tmp_path / "missing" / "out.onnx")
