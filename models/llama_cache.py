"""The decoder of `llama` as it generates: prefill reads the prompt, decode adds one token; the cache goes in and out.

Norms: those of `llama`. Shapes are those that a deployment has: in decode, each norm sees one row per sequence.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from rms_deploy.models.example import Example
from rms_deploy.models.llama import CONFIGS, Cache, Decoder, DecoderConfig

__all__ = ["DecodeStep", "Prefill", "decode", "prefill"]


class Prefill(nn.Module):
    """input_ids, int64 [batch, sequence] -> logits of the last position, [batch, vocabulary]; then key and value of
    each layer, [batch, kv_heads, sequence, size of a head].
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        """(logits, key and value of layer 0, of layer 1, ...)"""
        x, present = self.decoder.run(input_ids)
        return self.decoder.head(x[:, -1]), *(tensor for cache in present for tensor in cache)


class DecodeStep(nn.Module):
    """input_ids, int64 [batch, 1], and the cache of the tokens before it -> logits, [batch, vocabulary], and the cache
    with this token.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, input_ids: Tensor, past: list[dict[str, Tensor]]) -> tuple[Tensor, ...]:
        """(logits, key and value of layer 0, of layer 1, ...); `past`: {"key": ..., "value": ...} of each layer."""
        x, present = self.decoder.run(input_ids, [Cache(**cache) for cache in past])
        return self.decoder.head(x[:, -1]), *(tensor for cache in present for tensor in cache)


def prefill(size: str = "tiny", norm: str = "rmsnorm", *, seed: int = 0) -> Example:
    """Reads a prompt of 16 tokens; its weights are those of `llama` with the same seed."""
    config = replace(CONFIGS[size], norm=norm)
    input_ids = torch.randint(config.vocabulary, (2, 16), generator=torch.Generator().manual_seed(seed))
    dynamic = {"input_ids": {0: "batch", 1: "sequence"}}
    return Example(Prefill(Decoder(config, seed=seed)), (input_ids,), dynamic, _output_names(config))


def decode(size: str = "tiny", norm: str = "rmsnorm", *, seed: int = 0) -> Example:
    """Adds one token to 16; its weights are those of `llama` with the same seed."""
    config = replace(CONFIGS[size], norm=norm)
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(config.vocabulary, (2, 1), generator=generator)
    shape = (2, config.kv_heads, 16, config.hidden // config.heads)
    past = [{name: torch.randn(shape, generator=generator) for name in ("key", "value")} for _ in range(config.layers)]
    cached = {name: {0: "batch", 2: "past"} for name in ("key", "value")}
    dynamic = {"input_ids": {0: "batch"}, "past": [cached] * config.layers}
    return Example(DecodeStep(Decoder(config, seed=seed)), (input_ids, past), dynamic, _output_names(config))


def _output_names(config: DecoderConfig) -> tuple[str, ...]:
    return ("logits", *(f"present_{i}_{name}" for i in range(config.layers) for name in ("key", "value")))
