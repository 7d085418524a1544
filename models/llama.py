"""A Llama-style decoder: RMSNorm, rotary attention with grouped keys, SwiGLU, residuals; seeded random weights.

Source: Touvron et al., Llama 2, 2023; the norm rounds before it scales, as in Meta's code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from rms_deploy.models.norms import NormKind, make_norm

__all__ = ["Decoder", "DecoderConfig", "llama_small", "llama_tiny"]


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a decoder. `heads` divides `hidden`, `kv_heads` divides `heads`."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    norm: NormKind = "rmsnorm"
    epsilon: float = 1e-5
    rope_base: float = 10000.0
    tied: bool = True


class Decoder(nn.Module):
    """input_ids, int64 [batch, sequence] -> logits, [batch, sequence, vocabulary], in the dtype of the weights.

    Args:
        config: the sizes.
        seed: of the random weights, norms included; one seed gives one model.
    """

    def __init__(self, config: DecoderConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.hidden)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.norm = _norm(config)
        self.head = nn.Linear(config.hidden, config.vocabulary, bias=False)
        if config.tied:
            self.head.weight = self.embedding.weight
        size = config.hidden // config.heads
        frequencies = config.rope_base ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
        self.register_buffer("frequencies", frequencies, persistent=False)
        _randomize(self, seed)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits of the next token at each position."""
        x = self.embedding(input_ids)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device, dtype=torch.float32)
        angles = torch.outer(positions, self.get_buffer("frequencies").float())
        angles = torch.cat((angles, angles), dim=-1)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        logits: Tensor = self.head(self.norm(x))
        return logits


class _Layer(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.attention_norm = _norm(config)
        self.attention = _Attention(config)
        self.mlp_norm = _norm(config)
        self.mlp = _SwiGLU(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin)
        y: Tensor = x + self.mlp(self.mlp_norm(x))
        return y


class _Attention(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.size = config.hidden // config.heads
        self.groups = config.heads // config.kv_heads
        self.query = nn.Linear(config.hidden, config.heads * self.size, bias=False)
        self.key = nn.Linear(config.hidden, config.kv_heads * self.size, bias=False)
        self.value = nn.Linear(config.hidden, config.kv_heads * self.size, bias=False)
        self.output = nn.Linear(config.heads * self.size, config.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        query = _rotate(self._heads(self.query(x)), cos, sin)
        key = _rotate(self._heads(self.key(x)), cos, sin).repeat_interleave(self.groups, dim=1)
        value = self._heads(self.value(x)).repeat_interleave(self.groups, dim=1)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        y: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return y

    def _heads(self, x: Tensor) -> Tensor:
        """[batch, sequence, heads * size] -> [batch, heads, sequence, size]"""
        return x.view(*x.shape[:2], -1, self.size).transpose(1, 2)


class _SwiGLU(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.hidden, config.intermediate, bias=False)
        self.up = nn.Linear(config.hidden, config.intermediate, bias=False)
        self.down = nn.Linear(config.intermediate, config.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return y


def _norm(config: DecoderConfig) -> nn.Module:
    return make_norm(config.norm, config.hidden, config.epsilon, round_before_scale=True)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding on the halves of the last axis."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


@torch.no_grad()
def _randomize(model: nn.Module, seed: int) -> None:
    """Matrices N(0, 1 / inputs), so that activations stay near 1; vectors far from their usual 1 and 0, so that a wrong
    scale shows: weights N(1, 0.3), biases N(0, 0.3).
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0.0, parameter.shape[-1] ** -0.5, generator=generator)
        else:
            parameter.normal_(float(name.endswith("weight")), 0.3, generator=generator)


def _example(config: DecoderConfig, seed: int) -> tuple[Decoder, tuple[Tensor], dict[str, Any], tuple[str]]:
    input_ids = torch.randint(config.vocabulary, (2, 16), generator=torch.Generator().manual_seed(seed))
    dynamic = {"input_ids": {0: "batch", 1: "sequence"}}
    return Decoder(config, seed=seed), (input_ids,), dynamic, ("logits",)


def llama_tiny(
    norm: NormKind = "rmsnorm", *, seed: int = 0
) -> tuple[Decoder, tuple[Tensor], dict[str, Any], tuple[str]]:
    """2 layers of width 64, head tied to the embedding: exported and run in seconds."""
    config = DecoderConfig(
        vocabulary=256, hidden=64, layers=2, heads=4, kv_heads=2, intermediate=160, norm=norm, tied=True
    )
    return _example(config, seed)


def llama_small(
    norm: NormKind = "rmsnorm", *, seed: int = 0
) -> tuple[Decoder, tuple[Tensor], dict[str, Any], tuple[str]]:
    """4 layers of width 512, head not tied: large enough that a profile shows its norms."""
    config = DecoderConfig(
        vocabulary=2048, hidden=512, layers=4, heads=8, kv_heads=2, intermediate=1024, norm=norm, tied=False
    )
    return _example(config, seed)
