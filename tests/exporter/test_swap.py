"""Swapping the norms of a model, those of Hugging Face's among them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rms_deploy.exporter.swap import swap
from rms_deploy.nn import RMSNorm


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class LlamaRMSNorm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size))

    def forward(self, x):
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype)


class GatedRMSNorm(LlamaRMSNorm):
    def forward(self, x, gate):
        return super().forward(x * gate)


class MeanNorm(LlamaRMSNorm):
    def forward(self, x):
        return super().forward(x - x.mean(-1, keepdim=True))


def test_swaps_in_place_and_names_what_is_kept() -> None:
    shared = LlamaRMSNorm(8)
    model = nn.ModuleDict(
        {
            "first": shared,
            "deep": nn.Sequential(nn.Linear(8, 8), nn.RMSNorm(8), shared),
            "gated": GatedRMSNorm(8),
            "mean": MeanNorm(8),
            "ours": RMSNorm(8),
            "layer": nn.LayerNorm(8),
        }
    )
    report = swap(model)
    assert list(report.swapped) == ["first", "deep.1"]
    assert list(report.kept) == ["gated"], "MeanNorm is not called an RMSNorm, and is none"
    assert "gate" in report.kept["gated"]
    assert isinstance(model["first"], RMSNorm)
    assert model["first"] is report.swapped["first"]
    assert model["deep"][2] is model["first"]
    assert model["first"].weight is shared.weight
    assert isinstance(model["mean"], MeanNorm)
    assert isinstance(model["layer"], nn.LayerNorm)
    assert not swap(model).swapped, "swapping twice changes nothing"


def test_the_whole_module_is_kept_and_named() -> None:
    report = swap(LlamaRMSNorm(8))
    assert not report.swapped
    assert "whole module" in report.kept[""]


def test_state_dict_keys_stay() -> None:
    model = nn.Sequential(LlamaRMSNorm(8), nn.RMSNorm(8))
    keys = list(model.state_dict())
    swap(model)
    assert list(model.state_dict()) == keys


# name: class, module, (scale_offset, round_before_scale) as its code says
TRANSFORMERS = {
    "llama": ("LlamaRMSNorm", (0.0, True)),
    "mistral": ("MistralRMSNorm", (0.0, True)),
    "qwen2": ("Qwen2RMSNorm", (0.0, True)),
    "qwen3": ("Qwen3RMSNorm", (0.0, True)),
    "gemma": ("GemmaRMSNorm", (1.0, False)),
    "gemma2": ("Gemma2RMSNorm", (1.0, False)),
    "gemma3": ("Gemma3RMSNorm", (1.0, False)),
    "gemma3n": ("Gemma3nRMSNorm", (0.0, False)),
    "t5": ("T5LayerNorm", (0.0, True)),
    "phi3": ("Phi3RMSNorm", (0.0, True)),
    "olmo2": ("Olmo2RMSNorm", (0.0, False)),
    "gpt_oss": ("GptOssRMSNorm", (0.0, False)),
}


@pytest.mark.filterwarnings("ignore")  # transformers' own, at import
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_hugging_face_norms(name) -> None:
    from importlib import import_module

    kind, convention = TRANSFORMERS[name]
    module = getattr(import_module(f"transformers.models.{name}.modeling_{name}"), kind)(96, eps=3e-6)
    with torch.no_grad():
        module.weight.normal_()
    x = torch.randn(5, 7, 96)
    x[0] *= 2e-3  # shows the epsilon
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        original = module.to(dtype)
        model = nn.Sequential(original)
        report = swap(model)
        assert not report.kept
        norm = report.swapped["0"]
        assert norm.epsilon == 3e-6
        assert (norm.scale_offset, norm.round_before_scale) == convention
        expected, actual = original(x.to(dtype)), model(x.to(dtype))
        assert actual.dtype == expected.dtype
        # x * (1 / r) instead of x / r: 4 ulp of float32, or another half-precision rounding in fewer than 1 of 100
        assert float((actual == expected).float().mean()) > (0.0 if dtype == torch.float32 else 0.99)
        torch.testing.assert_close(actual, expected, rtol=4 * torch.finfo(dtype).eps, atol=0)
