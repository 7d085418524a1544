"""A T5-style encoder: attention with a bias per distance, gated GELU, RMSNorm, residuals; seeded random weights.

Norms: before attention and before the MLP of each layer, and at the end. T5 has RMSNorm alone, without a mean and
without a bias; it rounds before it scales. Attention is not divided by the root of the head's size.

Source: Raffel et al., Exploring the Limits of Transfer Learning, 2020; version 1.1 of its released models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from rms_deploy.models.example import Example, randomize
from rms_deploy.models.norms import make_norm

__all__ = ["CONFIGS", "Encoder", "EncoderConfig", "t5_encoder"]

_BUCKETS, _FARTHEST = 32, 128
"""How many groups of distances have a bias of their own; from the farthest on, all are in one group."""


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of an encoder; `heads` divides `hidden`."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    intermediate: int
    epsilon: float = 1e-6


CONFIGS: Final = {
    "tiny": EncoderConfig(vocabulary=256, hidden=64, layers=2, heads=4, intermediate=160),
    "small": EncoderConfig(vocabulary=2048, hidden=512, layers=4, heads=8, intermediate=1024),
    "base": EncoderConfig(vocabulary=8192, hidden=768, layers=12, heads=12, intermediate=2048),
}


class Encoder(nn.Module):
    """input_ids, int64 [batch, sequence] -> hidden, [batch, sequence, hidden], in the dtype of the weights."""

    def __init__(self, config: EncoderConfig, norm: str = "rmsnorm", *, seed: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.hidden)
        self.distance_bias = nn.Embedding(_BUCKETS, config.heads)
        self.layers = nn.ModuleList(_Layer(config, norm) for _ in range(config.layers))
        self.norm = make_norm(norm, config.hidden, config.epsilon, round_before_scale=True)
        randomize(self, seed)
        # T5 leaves the division by the root of the size of a head to the initial queries.
        for name, parameter in self.named_parameters():
            if name.endswith("query.weight"):
                parameter.data *= (config.hidden // config.heads) ** -0.5

    def forward(self, input_ids: Tensor) -> Tensor:
        """The hidden state at each position."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        bias = self.distance_bias(_bucket(positions[None, :] - positions[:, None])).permute(2, 0, 1).unsqueeze(0)
        x = self.embedding(input_ids)
        for layer in self.layers:
            x = layer(x, bias)
        y: Tensor = self.norm(x)
        return y


def _bucket(distance: Tensor) -> Tensor:
    """The group of each distance, int64 0 ... 31. Half of them are for each direction: of these, half hold one distance
    each, and the others grow in logarithmic steps.
    """
    half, exact = _BUCKETS // 2, _BUCKETS // 4
    size = distance.abs()
    steps = torch.log(size.clamp(min=1).float() / exact) / math.log(_FARTHEST / exact) * (half - exact)
    far = (exact + steps.clamp(min=0).long()).clamp(max=half - 1)
    return torch.where(distance > 0, half, 0) + torch.where(size < exact, size, far)


class _Layer(nn.Module):
    def __init__(self, config: EncoderConfig, norm: str) -> None:
        super().__init__()
        hidden = config.hidden
        self.size = hidden // config.heads
        self.attention_norm = make_norm(norm, hidden, config.epsilon, round_before_scale=True)
        self.query, self.key, self.value, self.output = (nn.Linear(hidden, hidden, bias=False) for _ in range(4))
        self.mlp_norm = make_norm(norm, hidden, config.epsilon, round_before_scale=True)
        self.gate, self.up = (nn.Linear(hidden, config.intermediate, bias=False) for _ in range(2))
        self.down = nn.Linear(config.intermediate, hidden, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = x + self._attention(self.attention_norm(x), bias)
        y = self.mlp_norm(x)
        mixed: Tensor = self.down(F.gelu(self.gate(y), approximate="tanh") * self.up(y))
        return x + mixed

    def _attention(self, x: Tensor, bias: Tensor) -> Tensor:
        query, key, value = (
            project(x).view(*x.shape[:2], -1, self.size).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        mixed = torch.softmax(query @ key.transpose(2, 3) + bias, dim=-1) @ value
        y: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return y


def t5_encoder(size: str = "tiny", norm: str = "rmsnorm", *, seed: int = 0) -> Example:
    """2, 4 or 12 layers of width 64, 512 or 768."""
    config = CONFIGS[size]
    input_ids = torch.randint(config.vocabulary, (2, 16), generator=torch.Generator().manual_seed(seed))
    dynamic = {"input_ids": {0: "batch", 1: "sequence"}}
    return Example(Encoder(config, norm, seed=seed), (input_ids,), dynamic, ("hidden",))
