"""Prefill and decode give what the whole sequence at once gives."""

from __future__ import annotations

import pytest
import torch

from rms_deploy.models.llama import llama
from rms_deploy.models.llama_cache import decode, prefill


@pytest.mark.parametrize("norm", ["rmsnorm", "layernorm"])
@torch.no_grad()
def test_equal_the_whole_sequence(norm) -> None:
    ids = torch.randint(256, (2, 9), generator=torch.Generator().manual_seed(3))
    whole = llama(norm=norm).module.double()(ids)
    reads, adds = prefill(norm=norm).module.double(), decode(norm=norm).module.double()
    logits, *present = reads(ids[:, :6])
    torch.testing.assert_close(logits, whole[:, 5])
    for i in range(6, 9):
        past = [{"key": key, "value": value} for key, value in zip(present[::2], present[1::2], strict=True)]
        logits, *present = adds(ids[:, i : i + 1], past)
        torch.testing.assert_close(logits, whole[:, i])
    assert all(tensor.shape == (2, 2, 9, 16) for tensor in present)


def test_names_and_shapes() -> None:
    example = decode()
    assert example.output_names == ("logits", "present_0_key", "present_0_value", "present_1_key", "present_1_value")
    assert prefill().output_names == example.output_names
    ids, past = example.inputs
    assert ids.shape == (2, 1)
    assert [tuple(cache["key"].shape) for cache in past] == [(2, 2, 16, 16)] * 2
