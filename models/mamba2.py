"""A Mamba-2-style language model: a state space layer in its quadratic form, a gated norm; seeded random weights.

Norms: before each layer and before the head; and, in each layer, of y * silu(z), the gated norm before the output.
They round before they scale.

The layer is computed as masked attention,

    y_t = sum over s <= t of (C_t . B_s) exp(sum of dt A over s + 1 ... t) dt_s x_s

which is the dual of the recurrence h_t = exp(dt_t A) h_(t-1) + dt_t B_t x_t, y_t = C_t h_t, and how short sequences
are run.

Source: Dao and Gu, Transformers are SSMs, 2024, sections 3 and 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from rms_deploy.models.example import Example, randomize
from rms_deploy.models.norms import make_norm

__all__ = ["CONFIGS", "Mamba2", "Mamba2Config", "mamba2"]


@dataclass(frozen=True)
class Mamba2Config:
    """Sizes of the model; the inner width is twice `hidden`, in heads of `head` channels that share B and C."""

    vocabulary: int
    hidden: int
    layers: int
    head: int
    state: int
    kernel: int = 4
    epsilon: float = 1e-5


CONFIGS: Final = {
    "tiny": Mamba2Config(vocabulary=256, hidden=48, layers=2, head=16, state=8),
    "small": Mamba2Config(vocabulary=2048, hidden=384, layers=4, head=64, state=64),
    "base": Mamba2Config(vocabulary=8192, hidden=768, layers=24, head=64, state=128),
}


class Mamba2(nn.Module):
    """input_ids, int64 [batch, sequence] -> logits, [batch, sequence, vocabulary], in the dtype of the weights."""

    def __init__(self, config: Mamba2Config, norm: str = "rmsnorm", *, seed: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.hidden)
        self.norms = nn.ModuleList(
            make_norm(norm, config.hidden, config.epsilon, round_before_scale=True) for _ in range(config.layers + 1)
        )
        self.layers = nn.ModuleList(_Layer(config, norm) for _ in range(config.layers))
        self.head = nn.Linear(config.hidden, config.vocabulary, bias=False)
        randomize(self, seed)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits of the next token at each position."""
        x = self.embedding(input_ids)
        for norm, layer in zip(self.norms, self.layers, strict=False):  # the last norm is the head's
            x = x + layer(norm(x))
        logits: Tensor = self.head(self.norms[-1](x))
        return logits


class _Layer(nn.Module):
    def __init__(self, config: Mamba2Config, norm: str) -> None:
        super().__init__()
        inner = 2 * config.hidden
        self.head, self.heads = config.head, inner // config.head
        self.split = [inner, inner + 2 * config.state, self.heads]
        self.split_mixed = [inner, config.state, config.state]
        self.input = nn.Linear(config.hidden, sum(self.split), bias=False)
        mixed = self.split[1]
        self.convolution = nn.Conv1d(mixed, mixed, config.kernel, groups=mixed, padding=config.kernel - 1)
        self.log_decay = nn.Parameter(torch.zeros(self.heads))
        self.step_bias = nn.Parameter(torch.zeros(self.heads))
        self.skip = nn.Parameter(torch.zeros(self.heads))
        self.norm = make_norm(norm, inner, config.epsilon, round_before_scale=True)
        self.output = nn.Linear(inner, config.hidden, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        z, mixed, step = torch.split(self.input(hidden), self.split, dim=-1)
        length = hidden.shape[1]
        mixed = F.silu(self.convolution(mixed.transpose(1, 2))[..., :length].transpose(1, 2))
        x, b, c = torch.split(mixed, self.split_mixed, dim=-1)
        x = x.reshape(*x.shape[:2], self.heads, self.head).transpose(1, 2)
        step = F.softplus(step + self.step_bias).transpose(1, 2)
        y = self._mix(x, b, c, step) + self.skip[:, None, None] * x
        y = y.transpose(1, 2).flatten(2)
        result: Tensor = self.output(self.norm(y * F.silu(z)))
        return result

    def _mix(self, x: Tensor, b: Tensor, c: Tensor, step: Tensor) -> Tensor:
        """x, y: [batch, heads, sequence, head]; b, c: [batch, sequence, state]; step: [batch, heads, sequence]"""
        decay = torch.cumsum(-torch.exp(self.log_decay)[:, None] * step, dim=-1)
        passed = decay.unsqueeze(-1) - decay.unsqueeze(-2)
        length = passed.shape[-1]
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        weights = torch.exp(passed.masked_fill(later, float("-inf")))
        return (weights * (c @ b.transpose(1, 2)).unsqueeze(1)) @ (step.unsqueeze(-1) * x)


def mamba2(size: str = "tiny", norm: str = "rmsnorm", *, seed: int = 0) -> Example:
    """2, 4 or 24 layers of width 48, 384 or 768; base has the sizes of Mamba-2 130M but for the vocabulary."""
    config = CONFIGS[size]
    input_ids = torch.randint(config.vocabulary, (2, 16), generator=torch.Generator().manual_seed(seed))
    dynamic = {"input_ids": {0: "batch", 1: "sequence"}}
    return Example(Mamba2(config, norm, seed=seed), (input_ids,), dynamic, ("logits",))
