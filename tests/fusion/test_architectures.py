"""Architectures of Hugging Face, tiny and with random weights, as both of torch's exporters write them.

Every call of a module that is an RMSNorm is one op afterwards; hooks on the modules count them. Models with LayerNorm
are controls: nothing of them is fused.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
import transformers
from torch import nn

from rms_deploy.fusion.fuse import fuse
from rms_deploy.runtime import onnxruntime_session as runtime

pytestmark = pytest.mark.slow

_SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "use_cache": False,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_PLAIN = {name: value for name, value in _SIZES.items() if name not in ("head_dim", "num_key_value_heads")}
_STATE = {**_PLAIN, "state_size": 8, "expand": 2, "n_groups": 1, "num_heads": 8, "head_dim": 8, "chunk_size": 8}
_ENCODER = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4, "dropout_rate": 0}
_LATENT = {
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
    "head_dim": 4,
    "num_key_value_heads": 4,
    "first_k_dense_replace": 1,
    "n_routed_experts": 2,
    "num_experts_per_tok": 1,
    "n_group": 1,
    "topk_group": 1,
}
_SSM = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 1,
    "mamba_d_state": 8,
    "mamba_d_conv": 4,
    "mamba_chunk_size": 8,
}
_FALCON = {"mamba_d_ssm": 64, "mamba_rms_norm": True}
_NEMOTRON = {
    "layers_block_type": ["mamba"],
    "mamba_num_heads": 8,
    "mamba_head_dim": 8,
    "n_groups": 2,
    "ssm_state_size": 8,
    "chunk_size": 8,
}
_GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 32, "use_cache": False}


@dataclass(frozen=True)
class Architecture:
    """The configuration, and the norms in one pass through the model."""

    sizes: dict[str, Any]
    norms: int
    kind: str = ""
    """The class; default: the causal language model of the configuration."""
    gates: int = 0
    """So many of the norms have a gate, and take it where torch's newer exporter wrote the model."""
    cannot: tuple[str, ...] = ()
    """Exporters of torch that fail on it, or write what does not load or run; with a dtype: in that alone."""


_LEGACY = ("legacy",)
_DYNAMO = ("dynamo",)
_LEGACY_BFLOAT16 = "legacy bfloat16"  # a cast to a complex type, a Softplus of bfloat16
MODELS: dict[str, Architecture] = {
    "llama": Architecture({**_SIZES, "num_hidden_layers": 2}, 5),
    "mistral": Architecture(_SIZES, 3),
    "ministral": Architecture(_SIZES, 3),
    "qwen2": Architecture(_SIZES, 3),
    "qwen3": Architecture(_SIZES, 5),
    "gemma": Architecture(_SIZES, 3),
    "gemma2": Architecture(_SIZES, 5),
    "gemma3_text": Architecture(_SIZES, 7),
    "vaultgemma": Architecture(_SIZES, 3),
    "phi3": Architecture(_SIZES, 3),
    "olmo2": Architecture(_SIZES, 5),
    "olmo3": Architecture(_SIZES, 5),
    "granite": Architecture(_SIZES, 3),
    "glm": Architecture(_SIZES, 3, cannot=_LEGACY),
    "glm4": Architecture(_SIZES, 5, cannot=_LEGACY),
    "helium": Architecture(_SIZES, 3, cannot=_LEGACY),
    "smollm3": Architecture(_SIZES, 3),
    "exaone4": Architecture(_SIZES, 5),
    "arcee": Architecture(_SIZES, 3),
    "apertus": Architecture(_SIZES, 5, cannot=_LEGACY),
    "bitnet": Architecture(_SIZES, 5),
    "hunyuan_v1_dense": Architecture(_SIZES, 5),
    "ernie4_5": Architecture(_SIZES, 3, cannot=_LEGACY),
    "seed_oss": Architecture(_SIZES, 3),
    "deepseek_v3": Architecture({**_SIZES, **_LATENT}, 5, cannot=(_LEGACY_BFLOAT16,)),  # ConstantOfShape of bfloat16
    "nanochat": Architecture(_SIZES, 6),
    "diffllama": Architecture(_SIZES, 4, cannot=_LEGACY),
    "cwm": Architecture(_SIZES, 3),
    "lfm2": Architecture(_SIZES, 5),
    "doge": Architecture(_SIZES, 5, cannot=(_LEGACY_BFLOAT16,)),
    "eurobert": Architecture(_SIZES, 3, kind="AutoModel"),
    "mamba": Architecture(_STATE, 2, cannot=(*_DYNAMO, _LEGACY_BFLOAT16)),
    "falcon_mamba": Architecture(_STATE, 5, cannot=(*_DYNAMO, _LEGACY_BFLOAT16)),
    "mamba2": Architecture(_STATE, 3, gates=1, cannot=_LEGACY),
    "bamba": Architecture({**_SIZES, **_SSM, "attn_layer_indices": []}, 4, gates=1, cannot=_LEGACY),
    "falcon_h1": Architecture({**_SIZES, **_SSM, **_FALCON}, 4, gates=1, cannot=_LEGACY),
    "nemotron_h": Architecture({**_SIZES, **_NEMOTRON}, 3, gates=1, cannot=_LEGACY),
    "t5": Architecture(_ENCODER, 3, kind="T5EncoderModel", cannot=(_LEGACY_BFLOAT16,)),
    "mt5": Architecture(_ENCODER, 3, kind="MT5EncoderModel", cannot=(_LEGACY_BFLOAT16,)),
    "umt5": Architecture(_ENCODER, 3, kind="UMT5EncoderModel", cannot=(_LEGACY_BFLOAT16,)),
    "gpt2": Architecture(_GPT2, 0),
    "bert": Architecture(_PLAIN, 0, kind="AutoModel"),
    "opt": Architecture(_PLAIN, 0),
    "gpt_neox": Architecture(_PLAIN, 0),
}
_HALF = ("llama", "gemma2", "t5")
"""Those that the slow exporter writes in half types too; the fast one writes all."""


class Logits(nn.Module):
    """The first output alone, from token ids alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        # a mask of ones: without any, the masks are made of operators that the legacy exporter lacks
        return self.model(input_ids=ids, attention_mask=torch.ones_like(ids))[0]


def random_model(name: str) -> nn.Module:
    architecture = MODELS[name]
    torch.manual_seed(0)
    configuration = transformers.AutoConfig.for_model(name, **architecture.sizes)
    if not architecture.kind.endswith("EncoderModel"):
        kind = getattr(transformers, architecture.kind or "AutoModelForCausalLM")
        model = kind.from_config(configuration, attn_implementation="eager")
    else:
        model = getattr(transformers, architecture.kind)(configuration)
    model = model.eval().requires_grad_(False).float()
    for parameter in model.parameters():
        if parameter.ndim == 1:  # norms start as ones, which would hide a lost or swapped scale
            parameter.uniform_(-1.5, 1.5)
    return model


def is_norm(module: nn.Module) -> bool:
    name = type(module).__name__
    return "RMSNorm" in name or name.endswith("T5LayerNorm")


def calls_of_norms(model: nn.Module, ids: torch.Tensor) -> int:
    calls: list[nn.Module] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: calls.append(module))
        for module in model.modules()
        if is_norm(module)
    ]
    Logits(model)(ids)
    for hook in hooks:
        hook.remove()
    return len(calls)


def export(model: nn.Module, ids: torch.Tensor, exporter: str, path: Path) -> onnx.ModelProto:
    # torch's exporters warn of their own parts, and print the graph when they fail
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            shapes = ({0: "b", 1: "s"},)
            torch.onnx.export(
                Logits(model), (ids,), path, dynamo=True, opset_version=18, dynamic_shapes=shapes, verbose=False
            )
        else:
            axes = {"ids": {0: "b", 1: "s"}}
            torch.onnx.export(
                Logits(model), (ids,), path, dynamo=False, opset_version=17, input_names=["ids"], dynamic_axes=axes
            )
    return onnx.load(path)


def variants():
    for name, architecture in MODELS.items():
        for exporter in ("dynamo", "legacy"):
            for dtype in ("float32", "float16", "bfloat16") if architecture.norms else ("float32",):
                if {exporter, f"{exporter} {dtype}"} & set(architecture.cannot):
                    continue
                if dtype == "float32" or exporter == "legacy" or name in _HALF:
                    yield name, exporter, dtype


@pytest.mark.parametrize(("name", "exporter", "dtype"), list(variants()))
def test_every_norm_is_one_op(name, exporter, dtype, tmp_path, run, assert_equal):
    ids = torch.randint(3, 64, (2, 7), generator=torch.Generator().manual_seed(1))
    model = random_model(name).to(getattr(torch, dtype))
    count = calls_of_norms(model, ids)
    assert count == MODELS[name].norms
    exported = export(model, ids, exporter, tmp_path / "model.onnx")
    result = fuse(exported, verify=False)
    left = [miss for miss in result.near_misses if miss.left == "norm"]
    assert (len(result.norms), left if count else []) == (count, [])
    if exporter == "dynamo":
        assert sum("SiluGate" in norm.kind for norm in result.norms) == MODELS[name].gates
    fused = ir.to_proto(result.model)
    onnx.checker.check_model(fused, full_check=True)
    again = fuse(fused, verify=False)
    assert (again.norms, len(again.fused_before)) == ((), count)
    if dtype == "float32":
        feeds = {exported.graph.input[0].name: ids.numpy()}
        expected = run(exported, feeds)
        kernel = list(runtime.run(runtime.session(fused, optimize=False), feeds).values())
        assert_equal(kernel, expected, through_layers=True)
        assert_equal(run(fused, feeds), expected, through_layers=True)


_VOCABULARY = 64


def shrunk(module, monkeypatch) -> onnx.ModelProto:
    """The model with random weights and a vocabulary of 64 instead of 49,152."""
    generator = np.random.default_rng(0)
    sizes = {49152: _VOCABULARY}

    def weights(*shape):
        return generator.standard_normal([sizes.get(size, size) for size in shape]) / shape[-1] ** 0.5

    monkeypatch.setattr(np.random, "rand", weights)
    model = module.make_model_with_random_weights()
    for node in model.graph.node:
        for attribute in node.attribute:
            if 49152 in attribute.ints:
                attribute.ints[:] = [sizes.get(size, size) for size in attribute.ints]
            if attribute.HasField("t") and attribute.t.data_type == onnx.TensorProto.INT64:
                array = onnx.numpy_helper.to_array(attribute.t)
                attribute.t.CopyFrom(onnx.numpy_helper.from_array(np.where(array == 49152, _VOCABULARY, array)))
    for dim in model.graph.output[0].type.tensor_type.shape.dim:
        dim.dim_value = sizes.get(dim.dim_value, dim.dim_value)
    return model


@pytest.mark.parametrize("number", [1, 2])
def test_smollm_of_the_onnxscript_wheel(number, monkeypatch, run, assert_equal):
    module = pytest.importorskip(f"onnxscript.rewriter.models._smollm_{number}")
    model = shrunk(module, monkeypatch)
    inputs = getattr(module, f"smollm_test_{number}")().get_ort_inputs()
    feeds = {name: array % _VOCABULARY for name, array in inputs.items()}
    result = fuse(model, verify=False)
    assert (len(result.norms), result.near_misses) == (3, ())
    fused = ir.to_proto(result.model)
    onnx.checker.check_model(fused, full_check=True)
    kernel = list(runtime.run(runtime.session(fused, optimize=False), feeds).values())
    assert_equal(kernel, run(model, feeds), through_layers=True)
