"""The random weights of the built-in models."""

from __future__ import annotations

import torch
from torch import nn

from rms_deploy.models.example import randomize


def network(seed: int) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(256, 128), nn.LayerNorm(128), nn.Conv2d(3, 64, 7))
    randomize(model, seed)
    return model


def test_one_seed_is_one_model() -> None:
    first, same, other = (network(seed) for seed in (0, 0, 1))
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, same.get_parameter(name))
        assert not torch.equal(parameter, other.get_parameter(name))


def test_matrices_keep_the_size_of_what_they_multiply_and_vectors_show_an_error() -> None:
    """Standard deviations of the numbers drawn, to within a tenth: three of their own, of 1000 numbers or more."""
    linear, norm, convolution = network(0)
    assert abs(linear.weight.std().item() * 256**0.5 - 1) < 0.1
    assert abs(convolution.weight.std().item() * (3 * 49) ** 0.5 - 1) < 0.1
    assert abs(norm.weight.mean().item() - 1) < 0.1
    assert 0.2 < norm.weight.std().item() < 0.4
    assert abs(norm.bias.mean().item()) < 0.1
