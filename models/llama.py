"""A Llama-style decoder: RMSNorm, rotary attention with grouped keys, SwiGLU, residuals; seeded random weights.

Norms: before attention and before the MLP of each layer, and before the head; with `qk_norm` also of each head's
queries and keys, before they are rotated (Qwen 3). They round before they scale, as in Meta's code.

Source: Touvron et al., Llama 2, 2023.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from rms_deploy.models.example import Example, randomize
from rms_deploy.models.norms import make_norm

__all__ = ["CONFIGS", "Cache", "Decoder", "DecoderConfig", "llama"]


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a decoder. `heads` divides `hidden`, `kv_heads` divides `heads`."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    norm: str = "rmsnorm"
    epsilon: float = 1e-5
    qk_norm: bool = False
    rope_base: float = 10000.0
    tied: bool = False


CONFIGS: Final = {
    "tiny": DecoderConfig(vocabulary=256, hidden=64, layers=2, heads=4, kv_heads=2, intermediate=160, tied=True),
    "small": DecoderConfig(vocabulary=2048, hidden=512, layers=4, heads=8, kv_heads=2, intermediate=1024),
    "base": DecoderConfig(vocabulary=8192, hidden=768, layers=12, heads=12, kv_heads=4, intermediate=2048),
}


class Cache(NamedTuple):
    """Keys and values of one layer, each [batch, kv_heads, sequence, size of a head]; keys are rotated."""

    key: Tensor
    value: Tensor


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
        self.norm = _norm(config, config.hidden)
        self.head = nn.Linear(config.hidden, config.vocabulary, bias=False)
        if config.tied:
            self.head.weight = self.embedding.weight
        size = config.hidden // config.heads
        frequencies = config.rope_base ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
        self.register_buffer("frequencies", frequencies, persistent=False)
        randomize(self, seed)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits of the next token at each position."""
        x, _ = self.run(input_ids)
        logits: Tensor = self.head(x)
        return logits

    def run(self, input_ids: Tensor, past: list[Cache] | None = None) -> tuple[Tensor, list[Cache]]:
        """What the head reads, and the keys and values of all positions, those of `past` before the new ones.

        With `past`, `input_ids` is one token, so that there is nothing to mask.
        """
        x = self.embedding(input_ids)
        start = past[0].key.shape[2] if past else 0
        positions = torch.arange(start, start + input_ids.shape[1], device=input_ids.device, dtype=torch.float32)
        angles = torch.outer(positions, self.get_buffer("frequencies").float())
        angles = torch.cat((angles, angles), dim=-1)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        present = []
        for i, layer in enumerate(self.layers):
            x, cache = layer(x, cos, sin, past[i] if past else None)
            present.append(cache)
        return self.norm(x), present


class _Layer(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.attention_norm = _norm(config, config.hidden)
        self.attention = _Attention(config)
        self.mlp_norm = _norm(config, config.hidden)
        self.mlp = _SwiGLU(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, past: Cache | None) -> tuple[Tensor, Cache]:
        mixed, cache = self.attention(self.attention_norm(x), cos, sin, past)
        x = x + mixed
        return x + self.mlp(self.mlp_norm(x)), cache


class _Attention(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.size = config.hidden // config.heads
        self.groups = config.heads // config.kv_heads
        self.query = nn.Linear(config.hidden, config.heads * self.size, bias=False)
        self.key = nn.Linear(config.hidden, config.kv_heads * self.size, bias=False)
        self.value = nn.Linear(config.hidden, config.kv_heads * self.size, bias=False)
        self.output = nn.Linear(config.heads * self.size, config.hidden, bias=False)
        self.query_norm = _norm(config, self.size) if config.qk_norm else nn.Identity()
        self.key_norm = _norm(config, self.size) if config.qk_norm else nn.Identity()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, past: Cache | None) -> tuple[Tensor, Cache]:
        query = _rotate(self.query_norm(self._heads(self.query(x))), cos, sin)
        key = _rotate(self.key_norm(self._heads(self.key(x))), cos, sin)
        value = self._heads(self.value(x))
        if past is not None:
            key, value = torch.cat((past.key, key), dim=2), torch.cat((past.value, value), dim=2)
        mixed = F.scaled_dot_product_attention(
            query,
            key.repeat_interleave(self.groups, dim=1),
            value.repeat_interleave(self.groups, dim=1),
            is_causal=past is None,
        )
        return self.output(mixed.transpose(1, 2).flatten(2)), Cache(key, value)

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


def _norm(config: DecoderConfig, size: int) -> nn.Module:
    return make_norm(config.norm, size, config.epsilon, round_before_scale=True)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding on the halves of the last axis."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def llama(size: str = "tiny", norm: str = "rmsnorm", *, qk_norm: bool = False, seed: int = 0) -> Example:
    """The whole sequence at once: input_ids -> logits at each position."""
    config = replace(CONFIGS[size], norm=norm, qk_norm=qk_norm)
    input_ids = torch.randint(config.vocabulary, (2, 16), generator=torch.Generator().manual_seed(seed))
    dynamic = {"input_ids": {0: "batch", 1: "sequence"}}
    return Example(Decoder(config, seed=seed), (input_ids,), dynamic, ("logits",))
