"""The export: valid files of the right form, that plain ONNX Runtime runs with torch's results; modules left alone."""

from __future__ import annotations

import ast
import logging
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

from rms_deploy import export, fuse, session
from rms_deploy.errors import ExportError, InputError, OutputError
from rms_deploy.exporter.model_source import resolve
from rms_deploy.nn import AddRMSNorm, PartialRMSNorm, RMSNorm
from rms_deploy.ops import schemas
from rms_deploy.runtime import onnxruntime_session as runtime

DEFAULTS = {"axes": [-1], "rms_epsilon": 0.0, "rms_min": 0.0}
EPS = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class Toy(nn.Module):
    """One norm of each kind, and matrices between them."""

    def __init__(self, size: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(size, size)
        self.plain = RMSNorm(size, 1e-5)
        self.offset = RMSNorm(size, 1e-4, scale_offset=1.0)
        self.unscaled = RMSNorm(size, scale=False, rms_epsilon=1e-3, rms_min=0.5)
        self.partial = PartialRMSNorm(size, 0.25, round_before_scale=True)
        self.residual = AddRMSNorm(size, round_before_scale=True)
        for norm in (self.plain, self.offset, self.partial, self.residual):
            nn.init.normal_(norm.weight)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.offset(self.linear(self.plain(x)))
        y, total = self.residual(self.partial(y), self.unscaled(x))
        return self.linear(y), total


X = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(1))


def checked(model: ir.Model, path: Path | None = None) -> onnx.ModelProto:
    """The file, or the model: valid, with every shape known, and no initialiser twice."""
    proto = ir.to_proto(model) if path is None else onnx.load(path)
    schemas.register()
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    contents = [i.raw_data for i in proto.graph.initializer if np.prod(i.dims) > 16]
    assert len(set(contents)) == len(contents)
    return proto


def operators(proto: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in proto.graph.node)


def norm_nodes(proto: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """By the name of the module."""
    return {
        ast.literal_eval(prop.value)[-2]: node
        for node in proto.graph.node
        for prop in node.metadata_props
        if node.domain == "rms_deploy" and prop.key == "pkg.torch.onnx.name_scopes"
    }


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("rms_deploy")]


def run(proto: onnx.ModelProto, *inputs: torch.Tensor) -> list[np.ndarray]:
    """Plain ONNX Runtime, without our library: the functions are inlined."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return list(session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)}))


def assert_close(actual: np.ndarray, expected: torch.Tensor, dtype: str, roundings: int) -> None:
    """`roundings` of one eps each, of values as large as the largest: those along one path through the model."""
    bound = roundings * EPS[dtype] * float(expected.abs().max())
    assert actual.shape == tuple(expected.shape)
    assert float(np.abs(actual.astype(np.float64) - expected.double().numpy()).max()) <= bound


@pytest.fixture(scope="module")
def llama() -> nn.Module:
    return resolve("llama-tiny").module


KINDS = ("RMSNorm", "AddRMSNorm", "RMSNormalization", "ReduceMean", "Sqrt", "Reciprocal")


@pytest.mark.parametrize(
    ("norm", "dtype", "kinds"),
    [
        ("fused", "float32", {"RMSNorm": 1, "AddRMSNorm": 4}),
        ("fused", "float16", {"RMSNorm": 1, "AddRMSNorm": 4}),
        ("fused", "bfloat16", {"RMSNorm": 1, "AddRMSNorm": 4}),
        ("standard", "float16", {"RMSNormalization": 5}),
        ("decomposed", "float16", {"ReduceMean": 5, "Sqrt": 5, "Reciprocal": 5}),
    ],
)
@torch.no_grad()
def test_built_in_decoder(norm, dtype, kinds, tmp_path, llama) -> None:
    path = tmp_path / "m.onnx"
    export("llama-tiny", path, norm=norm, dtype=dtype)
    proto = checked(None, path)
    found = operators(proto)
    assert {kind: found[kind] for kind in KINDS if found[kind]} == kinds
    assert sorted(f.name for f in proto.functions) == (["AddRMSNorm", "RMSNorm"] if norm == "fused" else [])
    (ids,), (logits,) = proto.graph.input, proto.graph.output
    assert (ids.name, logits.name) == ("input_ids", "logits")
    assert [dim.dim_param for dim in ids.type.tensor_type.shape.dim] == ["batch", "sequence"]
    assert [d.dim_param or d.dim_value for d in logits.type.tensor_type.shape.dim] == ["batch", "sequence", 256]
    assert ir.DataType(logits.type.tensor_type.elem_type) == ir.DataType[{"float32": "FLOAT"}.get(dtype, dtype.upper())]
    if norm == "fused":
        assert list(norm_nodes(proto)) == [
            *(f"layers.{i}.{n}_norm" for i in (0, 1) for n in ("attention", "mlp")),
            "norm",
        ]
        for node in norm_nodes(proto).values():
            scale_type = {"float32": 1, "float16": 10, "bfloat16": 16}[dtype]
            assert attributes(node) == {**DEFAULTS, "epsilon": pytest.approx(1e-5), "scale_type": scale_type}
    if dtype != "bfloat16":  # of which ONNX Runtime's CPU provider multiplies no matrices
        other = torch.randint(256, (3, 9), generator=torch.Generator().manual_seed(2))
        (actual,) = run(proto, other)
        # Two layers of about 10 roundings each, and sums over up to 160 terms
        assert_close(actual, llama(other), dtype, roundings=40)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@torch.no_grad()
def test_every_op_and_attribute(dtype) -> None:
    module = Toy()
    proto = checked(export(module, inputs=X, dtype=dtype).model)
    nodes = norm_nodes(proto)
    kinds = {name: node.op_type for name, node in nodes.items()}
    assert kinds == {
        "plain": "RMSNorm",
        "offset": "RMSNorm",
        "unscaled": "RMSNorm",
        "partial": "PartialRMSNorm",
        "residual": "AddRMSNorm",
    }
    x_type = 1 if dtype == "float32" else 10
    assert attributes(nodes["offset"])["epsilon"] == pytest.approx(1e-4)
    assert attributes(nodes["unscaled"])["rms_epsilon"] == pytest.approx(1e-3)
    assert attributes(nodes["unscaled"])["rms_min"] == 0.5
    assert attributes(nodes["partial"])["partial_size"] == 4
    scale_types = {name: attributes(node)["scale_type"] for name, node in nodes.items()}
    assert scale_types == {"plain": 1, "offset": 1, "unscaled": 1, "partial": x_type, "residual": x_type}
    initializers = {i.name: i for i in proto.graph.initializer}
    assert initializers[nodes["offset"].input[1]].data_type == 1, "1 + w in float32, before the export"
    assert initializers[nodes["plain"].input[1]].data_type == x_type
    assert list(initializers[nodes["unscaled"].input[1]].dims) == []
    x = torch.randn(4, 5, 16).to(getattr(torch, dtype))
    y, total = run(proto, x)
    expected_y, expected_total = module(x.float())
    assert_close(y, expected_y, dtype, roundings=16)
    assert_close(total, expected_total, dtype, roundings=16)


LAZY = """
import torch
class Lazy(torch.nn.Module):
    def forward(self, x):
        from export_lazy_neighbour import add
        return add(x)
def lazy(): return Lazy(), torch.ones(2, 3)
"""


@pytest.mark.parametrize("options", [{}, {"norm": "decomposed", "exporter": "legacy"}])
def test_a_forward_may_import_from_the_current_folder(options, tmp_path, monkeypatch) -> None:
    (tmp_path / "export_lazy.py").write_text(LAZY)
    (tmp_path / "export_lazy_neighbour.py").write_text("def add(x): return x + 1")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    try:
        # With a name given, no call before the export has imported it already.
        assert operators(checked(export("export_lazy:lazy", output_names=["y"], **options).model))["Add"] == 1
    finally:
        for name in ("export_lazy", "export_lazy_neighbour"):
            sys.modules.pop(name, None)
    assert sys.path == path


def test_no_node_adds_an_offset_at_run_time() -> None:
    """Above a size, torch folds no constants: so the offset must not be left to it."""
    module = nn.Sequential(RMSNorm(20000, scale_offset=1.0))
    proto = checked(export(module, inputs=torch.randn(2, 20000)).model)
    assert operators(proto) == {"RMSNorm": 1}


@torch.no_grad()
def test_axes_block() -> None:
    module = nn.Sequential(RMSNorm(6, axes=[-3]), RMSNorm((5, 4)))
    for norm in module:
        nn.init.normal_(norm.weight)
    x = torch.randn(3, 6, 5, 4)
    proto = checked(export(module, inputs=x).model)
    assert [list(attributes(node)["axes"]) for node in proto.graph.node] == [[-3], [-2, -1]]
    (y,) = run(proto, x)
    assert_close(y, module(x), "float32", roundings=8)


class Rows(nn.Module):
    """A scale for each group, and one for each sample, in a norm and with a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.groups = RMSNorm(16, scale_shape=(4, 16))
        nn.init.normal_(self.groups.weight)
        self.sample = RMSNorm(64, scale=False, scale_offset=1.0)
        self.residual = AddRMSNorm(64, scale=False)

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        y = self.groups(x.unflatten(-1, (4, 16))).flatten(-2)
        y = self.sample(y, scale[:, None])
        return self.residual(y, x, scale[:, None])[0]


@pytest.mark.parametrize("norm", ["fused", "decomposed"])
def test_a_scale_of_several_rows(norm) -> None:
    module, x, scale = Rows(), torch.randn(2, 5, 64), torch.randn(2, 64)
    result = fuse(export(module, inputs=(x, scale), norm=norm).model)
    shapes = ["float32[4, 16]", "float32[batch, 1, 64]", "float32[batch, 1, 64]"]
    assert [norm.scale for norm in (*result.fused_before, *result.norms)] == shapes
    assert not result.near_misses
    names = [value.name for value in result.model.graph.inputs]
    feeds = dict(zip(names, (x.numpy(), scale.numpy()), strict=True))
    (y,) = runtime.run(session(result.model), feeds).values()
    # Three norms of some ten roundings each, of numbers of size 10 at most.
    np.testing.assert_allclose(y, module(x, scale).detach().numpy(), rtol=0, atol=30 * 10 * 2.0**-24)


def test_the_module_is_as_before() -> None:
    module = Toy().train()
    module.offset.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    children = dict(module.named_modules())
    training = {name: child.training for name, child in children.items()}
    for options in ({"dtype": "float16"}, {"norm": "decomposed", "swap": True}):
        export(module, inputs=X, **options)
    assert dict(module.named_modules()) == children
    assert {name: child.training for name, child in children.items()} == training
    after = module.state_dict()
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items())


def test_the_module_is_as_before_after_a_failure() -> None:
    module = nn.Sequential(nn.RMSNorm(16), Unexportable()).train()
    norm = module[0]
    with pytest.raises(ExportError):
        export(module, inputs=X, swap=True)
    assert module[0] is norm
    assert module.training


def test_swap(caplog) -> None:
    class GatedRMSNorm(nn.RMSNorm):
        def forward(self, x, gate=None):
            return super().forward(x if gate is None else x * gate)

    module = nn.Sequential(nn.RMSNorm(16), GatedRMSNorm(16))
    assert "RMSNorm" not in operators(checked(export(module, inputs=X, swap=False).model))
    with caplog.at_level(logging.WARNING):
        proto = checked(export(module, inputs=X).model)
    assert operators(proto)["RMSNorm"] == 1
    assert ours(caplog) == ["1 (GatedRMSNorm): not swapped: its forward takes (x, gate), that of an RMSNorm one tensor"]
    with torch.no_grad():
        assert_close(run(proto, X)[0], module(X), "float32", roundings=8)


class Residual(nn.Module):
    """A norm as torch has it, and one of a sum that is read again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.RMSNorm(16, 1e-5), nn.RMSNorm(16, 1e-5)
        for norm in (self.first, self.second):
            nn.init.normal_(norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + torch.tanh(self.first(x))
        return x * self.second(x)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@torch.no_grad()
def test_norms_of_torch_and_their_residual_adds_become_ours(dtype) -> None:
    module = Residual()
    proto = checked(export(module, inputs=X, dtype=dtype).model)
    assert operators(proto) == {"RMSNorm": 1, "Tanh": 1, "AddRMSNorm": 1, "Mul": 1}
    x = torch.randn(4, 5, 16)
    (y,) = run(proto, x.to(getattr(torch, dtype)))
    # Five operators in a row, norms of at most four roundings
    assert_close(y, module.double()(x.double()), dtype, roundings=16)


def test_swap_of_the_module_itself() -> None:
    assert operators(checked(export(nn.RMSNorm(16), inputs=X).model)) == {"RMSNorm": 1}


def hugging_face(name: str) -> nn.Module:
    import transformers

    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "head_dim": 8}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64, "use_cache": False}
    if name == "T5EncoderModel":
        sizes = {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 1, "num_heads": 4, "vocab_size": 64}
    config = getattr(transformers, re.sub("ForCausalLM|EncoderModel", "Config", name))
    torch.manual_seed(0)
    model = getattr(transformers, name)(config(**sizes)).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return model


@pytest.mark.filterwarnings("ignore")  # transformers' own
@pytest.mark.parametrize(
    ("name", "norms", "dtype"),
    [
        ("LlamaForCausalLM", 3, "float32"),
        pytest.param("Qwen3ForCausalLM", 5, "float32", marks=pytest.mark.slow),
        pytest.param("Gemma2ForCausalLM", 5, "float16", marks=pytest.mark.slow),
        ("T5EncoderModel", 3, "float16"),
    ],
)
@torch.no_grad()
def test_hugging_face_with_swap(name, norms, dtype) -> None:
    model = hugging_face(name)
    ids = torch.randint(64, (2, 7))
    proto = checked(export(model, inputs={"input_ids": ids}, dtype=dtype, swap=True).model)
    assert operators(proto)["RMSNorm"] + operators(proto)["AddRMSNorm"] == norms
    assert operators(proto)["ReduceMean"] == 0
    assert [output.name for output in proto.graph.output] == ["last_hidden_state" if "T5" in name else "logits"]
    other = torch.randint(64, (3, 11))
    # One layer of at most 20 roundings, and sums over up to 48 terms
    assert_close(run(proto, other)[0], model(other)[0], dtype, roundings=40)


@torch.no_grad()
def test_bfloat16_runs_with_the_library() -> None:
    """A norm alone: ONNX Runtime's CPU provider has no other bfloat16 operator."""
    module = RMSNorm(48, round_before_scale=True).to(torch.bfloat16)
    nn.init.normal_(module.weight)
    x = torch.randn(5, 7, 48).to(torch.bfloat16)
    model = export(module, inputs=x).model
    checked(model)
    (y,) = runtime.run(session(model), {"x": x.view(torch.int16).numpy().view(ml_dtypes.bfloat16)}).values()
    expected = module(x).view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    # float32 statistics, summed in another order, round fewer than 1 element in 2^8 otherwise
    assert np.count_nonzero(y != expected) <= y.size / 256


RECIPROCALS = {
    "RMSNormReciprocal": lambda **o: RMSNorm(48, round_reciprocal=True, **o),
    "PartialRMSNormReciprocal": lambda **o: PartialRMSNorm(48, 7, round_reciprocal=True, **o),
    "AddRMSNormReciprocal": lambda **o: AddRMSNorm(48, round_reciprocal=True, **o),
}


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("op", RECIPROCALS)
def test_a_rounded_reciprocal(op, dtype) -> None:
    module = RECIPROCALS[op]().to(dtype)
    inputs = tuple(torch.randn(5, 7, 48).to(dtype) for _ in range(1 + op.startswith("Add")))
    proto = checked(export(module, inputs=inputs).model)
    (node,) = [node for node in proto.graph.node if node.op_type == op]
    assert attributes(node)["scale_type"] == {torch.float16: 10, torch.bfloat16: 16}[dtype]
    kind = ml_dtypes.bfloat16 if dtype == torch.bfloat16 else np.float16
    feeds = (x.view(torch.int16).numpy().view(kind) for x in inputs)
    names = [value.name for value in proto.graph.input]
    y = next(iter(runtime.run(session(proto), dict(zip(names, feeds, strict=True))).values()))
    expected = module(*inputs)
    expected = (expected[0] if op.startswith("Add") else expected).view(torch.int16).numpy()
    # Both have one kernel, whose bits do not depend on the number of threads.
    np.testing.assert_array_equal(y.view(np.int16), expected)


@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_rounded_reciprocal_of_a_model_is_fused(dtype, scale, exporter) -> None:
    module = RMSNorm(48, scale=scale, round_reciprocal=True).to(dtype)
    x = torch.randn(5, 7, 48).to(dtype)
    model = export(module, inputs=x, norm="decomposed", exporter=exporter, opset=18).model
    result = fuse(model)
    assert [(norm.kind, norm.max_ulp) for norm in result.norms] == [("RMSNormReciprocal", 0)]
    assert not result.near_misses


class Outputs(nn.Module):
    def __init__(self, result) -> None:
        super().__init__()
        self.result = result

    def forward(self, x, mask=None):
        return self.result(x, mask)


@pytest.mark.parametrize(
    ("result", "names"),
    [
        (lambda x, _: x + 1, ["output"]),
        (lambda x, _: (x + 1, x + 2), ["output", "output_1"]),
        (lambda x, _: {"a": x + 1, "b": {"c": x + 2}}, ["a", "b_c"]),
    ],
)
def test_output_names(result, names) -> None:
    assert [value.name for value in export(Outputs(result), inputs=X).model.graph.outputs] == names


class Mapping(dict):
    """Registered without the names of its keys, as transformers 4 registers its outputs."""


pytree.register_pytree_node(
    Mapping, lambda m: (list(m.values()), list(m)), lambda v, k: Mapping(zip(k, v, strict=True))
)


def test_output_names_of_a_mapping_whose_keys_torch_does_not_know() -> None:
    module = Outputs(lambda x, _: Mapping(logits=x + 1, hidden=x + 2))
    assert [value.name for value in export(module, inputs=X).model.graph.outputs] == ["logits", "hidden"]


def test_given_names_inputs_and_shapes() -> None:
    module = Outputs(lambda x, mask: x * mask)
    inputs = {"x": torch.ones(4, 6), "mask": torch.ones(4, 6)}
    shapes = {"x": {1: "width"}, "mask": {1: "width"}}
    model = export(module, inputs=inputs, dynamic_shapes=shapes, output_names=["masked"]).model
    assert [value.name for value in model.graph.inputs] == ["x", "mask"]
    assert [str(dim) for dim in model.graph.inputs[1].shape] == ["4", "width"]
    assert model.graph.outputs[0].name == "masked"


def test_guessed_and_fixed_shapes() -> None:
    def shapes(x: torch.Tensor, **options: Any) -> list[str]:
        model = export(Outputs(lambda x, _: x + 1), inputs=x, **options).model
        return [str(dim) for dim in model.graph.inputs[0].shape]

    assert shapes(torch.ones(2, 3, 4)) == ["batch", "sequence", "4"]
    assert shapes(torch.ones(2, 3)) == ["batch", "3"]
    assert shapes(torch.ones(2, 3, 4, 5)) == ["batch", "3", "4", "5"]
    assert shapes(torch.ones(2, 3), dynamic=False) == ["2", "3"]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@torch.no_grad()
def test_legacy_exporter(dtype, llama) -> None:
    proto = checked(export("llama-tiny", norm="decomposed", exporter="legacy", dtype=dtype).model)
    assert operators(proto)["ReduceMean"] == 5
    assert [value.name for value in (*proto.graph.input, *proto.graph.output)] == ["input_ids", "logits"]
    if dtype != "bfloat16":
        other = torch.randint(256, (3, 9))
        assert_close(run(proto, other)[0], llama(other), dtype, roundings=40)


@pytest.mark.parametrize(
    ("options", "opset"),
    [
        ({}, 20),
        ({"norm": "standard"}, 23),
        ({"opset": 18}, 18),
        ({"opset": 24}, 24),
        ({"norm": "standard", "opset": 25}, 25),
    ],
)
def test_opset(options, opset) -> None:
    assert export(Toy(), inputs=X, **options).opset == opset


def test_standard_keeps_what_it_cannot_say(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        proto = checked(export(Toy(), inputs=X, norm="standard").model)
    assert {name: node.op_type for name, node in norm_nodes(proto).items()} == {
        "unscaled": "RMSNorm",
        "partial": "PartialRMSNorm",
    }
    assert operators(proto)["RMSNormalization"] == 3
    assert len(ours(caplog)) == 2
    with torch.no_grad():
        assert_close(run(proto, X)[0], Toy()(X)[0], "float32", roundings=16)


def test_nothing_of_this_machine_is_in_the_file(tmp_path) -> None:
    path = tmp_path / "m.onnx"
    export(Toy(), path, inputs=X)
    content = path.read_bytes()
    for folder in (Path(__file__).parents[1], Path(torch.__file__).parent, tmp_path):
        assert str(folder).encode() not in content


def test_says_nothing(capfd, recwarn) -> None:
    export(Toy(), inputs=X)
    assert tuple(capfd.readouterr()) == ("", "")
    assert not recwarn.list


class Unexportable(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if bool(x.sum() > 0) else x - 1


@pytest.mark.parametrize(
    ("module", "options", "error", "message"),
    [
        (Toy(), {"dtype": "int8"}, InputError, "dtype 'int8' is not supported; use float32, float16, bfloat16"),
        (Toy(), {"norm": "fast"}, InputError, "norm 'fast' is not known; use fused, standard, decomposed"),
        (Toy(), {"exporter": "old"}, InputError, "exporter 'old' is not supported; use dynamo, legacy"),
        (Toy(), {"exporter": "legacy"}, InputError, "the legacy exporter cannot write norm 'fused'"),
        (Toy(), {"opset": 17}, InputError, "opset 17 is not supported for norm 'fused'; use 18 to 25"),
        (Toy(), {"opset": 22, "norm": "standard"}, InputError, "use 23 to 25"),
        (Toy(), {"opset": 23, "norm": "decomposed"}, InputError, "use 18 to 22"),
        (Toy(), {"inputs": torch.ones(2, 5)}, InputError, "Toy: fails on its example inputs: InputError: x: shape"),
        (Toy(), {"inputs": (X, X)}, InputError, "Toy: fails on its example inputs: TypeError"),
        (Unexportable(), {}, ExportError, "Unexportable: torch cannot export it: "),
        (Toy(), {"dynamic_shapes": ({2: "width"},)}, ExportError, "Toy: torch cannot export it: "),
    ],
)
def test_mistakes_are_one_line(module, options, error, message) -> None:
    with pytest.raises(error, match=re.escape(message)) as caught:
        export(module, **{"inputs": X, **options})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    if error is ExportError:
        assert caught.value.__cause__ is not None


def test_a_bad_target_is_found_before_the_model_is_built(tmp_path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        export("no.such.module:factory", tmp_path / "missing" / "m.onnx")
    with pytest.raises(OutputError, match="is a directory"):
        export("no.such.module:factory", tmp_path)
