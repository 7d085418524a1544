"""Models of Hugging Face, tiny and with random weights: every RMSNorm module becomes one op."""

from __future__ import annotations

import warnings

import onnx
import pytest
import torch
from torch import nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
)

DECODER = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "use_cache": False,
}
ENCODER = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0}
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig, DECODER),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, DECODER),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config, DECODER),
    "t5": (T5EncoderModel, T5Config, ENCODER),
}


class Logits(nn.Module):
    """The first output alone, from token ids alone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids):
        return self.model(input_ids=ids)[0]


def random_model(name, dtype):
    kind, configuration, sizes = MODELS[name]
    torch.manual_seed(0)
    model = kind(configuration(**sizes)).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim == 1:  # norms start as ones, which would hide a lost or swapped scale
            parameter.uniform_(-1.5, 1.5)
    return model.to(dtype)


def calls_of_norms(model, ids):
    """The ground truth: how often a module that is an RMSNorm is called."""
    calls = []
    hooks = [
        module.register_forward_hook(lambda module, *_: calls.append(module))
        for module in model.modules()
        if "RMSNorm" in type(module).__name__ or type(module).__name__ == "T5LayerNorm"
    ]
    Logits(model)(ids)
    for hook in hooks:
        hook.remove()
    return len(calls)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, torch.float32) for name in MODELS), ("llama", torch.float16), ("gemma2", torch.float16)],
    ids=lambda value: str(value).removeprefix("torch."),
)
def test_every_norm_fuses(name, dtype, tmp_path, check):
    ids = torch.randint(0, 64, (2, 7), generator=torch.Generator().manual_seed(1))
    model = random_model(name, dtype)
    count = calls_of_norms(model, ids)
    assert count >= 5
    with warnings.catch_warnings():  # torch's exporter warns of its own parts
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits(model),
            (ids,),
            tmp_path / "model.onnx",
            dynamo=True,
            opset_version=18,
            dynamic_shapes=({0: "b", 1: "s"},),
            verbose=False,
        )
    result = check(onnx.load(tmp_path / "model.onnx"), norms=count, feeds={"ids": ids.numpy()}, through_layers=True)
    assert {norm.dtype for norm in result.norms} == {str(dtype).removeprefix("torch.")}
    if dtype == torch.float16:
        assert {norm.rounding for norm in result.norms} == {"once" if name == "gemma2" else "before scale"}
