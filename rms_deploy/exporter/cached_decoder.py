"""A decoder of Hugging Face with its key-value cache among its inputs and outputs, named as optimum names them."""

from __future__ import annotations

from rms_deploy.ops import torch_check  # noqa: F401 - first: it says what is missing

# isort: split
import inspect
from typing import Any, Final

import torch
from torch import Tensor, nn

from rms_deploy.errors import InputError
from rms_deploy.exporter.source import Source

__all__ = ["CachedDecoder", "with_past"]

_PAST: Final = 6
"""Tokens in the cache of the example call."""
_CACHED: Final = {0: "batch_size", 2: "past_sequence_length"}
_NEW: Final = {0: "batch_size", 1: "sequence_length"}
_ALL: Final = {0: "batch_size", 1: "past_sequence_length + sequence_length"}


class CachedDecoder(nn.Module):
    """Runs `decoder` on new tokens behind those whose keys and values are in the cache.

    One graph serves prefill, where the past has length 0, and decode, where there is one new token.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder
        parameters = inspect.signature(decoder.forward).parameters
        names = [name for name in ("cache", "past_key_values") if name in parameters]  # transformers 5 renamed it
        if not names or "position_ids" not in parameters:
            what = "position_ids" if names else "key-value cache"
            raise InputError(f"{type(decoder).__name__}: its forward takes no {what}; leave out `with_past=True`")
        self.cache_name = names[0]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        past_key_values: list[tuple[Tensor, Tensor]],
    ) -> tuple[Tensor, ...]:
        """The first output of the decoder; then key and value of layer 0, of layer 1, ..., the new tokens included.

        Args:
            input_ids: new tokens, int64 [batch, sequence].
            attention_mask: of the past and the new tokens, int64 [batch, past + sequence]; 0 hides a token.
            position_ids: of the new tokens, int64 [batch, sequence].
            past_key_values: (key, value) of each layer, each [batch, key-value heads, past, size of a head].
        """
        from transformers import DynamicCache

        cache: Any = DynamicCache()
        for layer, (key, value) in enumerate(past_key_values):
            cache.update(key, value, layer)
        result = self._run(cache, input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids)
        return result[0], *(tensor for layer in cache.layers for tensor in (layer.keys, layer.values))

    def past_of(self, input_ids: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Key and value of each layer for these tokens.

        Raises:
            InputError: a layer keeps something else than the keys and values of all tokens.
        """
        from transformers import DynamicCache

        cache = DynamicCache()
        positions = torch.arange(input_ids.shape[1]).expand_as(input_ids)
        self._run(cache, input_ids=input_ids, attention_mask=torch.ones_like(input_ids), position_ids=positions)
        past = [(getattr(layer, "keys", None), getattr(layer, "values", None)) for layer in cache.layers]
        for index, pair in enumerate(past):
            if not all(isinstance(t, Tensor) and t.ndim == 4 and t.shape[2] == input_ids.shape[1] for t in pair):
                raise InputError(
                    f"{type(self.decoder).__name__}: layer {index} keeps no keys and values of each token, "
                    f"but {type(cache.layers[index]).__name__}; leave out `with_past=True`"
                )
        return [(key, value) for key, value in past if key is not None and value is not None]

    def _run(self, cache: Any, **inputs: Tensor) -> Any:
        return self.decoder(**inputs, **{self.cache_name: cache}, use_cache=True)


@torch.no_grad()
def with_past(source: Source) -> Source:
    """`source`, a decoder with `input_ids`, with its cache: the first tokens of its example become the past.

    Inputs are `input_ids`, `attention_mask`, `position_ids` and `past_key_values.N.key`, `.value`; outputs `logits`, or
    `last_hidden_state` of a decoder without a head, and `present.N.key`, `.value`.

    Raises:
        InputError: the decoder has no cache of keys and values.
    """
    assert isinstance(source.inputs, dict)
    module = CachedDecoder(source.module)
    input_ids = source.inputs["input_ids"]
    past = module.past_of(input_ids[:, :_PAST])
    new = input_ids[:, _PAST:].contiguous()
    positions = torch.arange(_PAST, input_ids.shape[1]).expand_as(new).contiguous()
    tensors = [f"{layer}.{part}" for layer in range(len(past)) for part in ("key", "value")]
    return Source(
        module=module,
        inputs={
            "input_ids": new,
            "attention_mask": torch.ones_like(input_ids),
            "position_ids": positions,
            "past_key_values": past,
        },
        dynamic_shapes={
            "input_ids": _NEW,
            "attention_mask": _ALL,
            "position_ids": _NEW,
            "past_key_values": [(_CACHED, _CACHED)] * len(past),
        },
        input_names=("input_ids", "attention_mask", "position_ids", *(f"past_key_values.{name}" for name in tensors)),
        output_names=(
            "last_hidden_state" if source.cached is None else "logits",
            *(f"present.{name}" for name in tensors),
        ),
        own=source.own,
        cached=True,
    )
