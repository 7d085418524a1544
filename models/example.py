"""A model with what its export needs, and its random weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

__all__ = ["Example", "randomize"]


class Example(NamedTuple):
    """What a factory returns; `rms_deploy.exporter.model_source.resolve` takes it as it takes a user's tuple."""

    module: nn.Module
    inputs: tuple[Any, ...]
    dynamic_shapes: dict[str, Any] | tuple[Any, ...]
    """As `torch.onnx.export` takes them."""
    output_names: tuple[str, ...]


@torch.no_grad()
def randomize(model: nn.Module, seed: int) -> None:
    """Matrices N(0, 1 / inputs), so that activations stay near 1; vectors far from their usual 1 and 0, so that a wrong
    scale shows: weights N(1, 0.3), biases N(0, 0.3). One seed gives one model.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.numel() > max(parameter.shape):
            inputs = parameter[0].numel()
            parameter.normal_(0.0, inputs**-0.5, generator=generator)
        else:  # a scale over channels has the shape [channels, 1, 1]
            parameter.normal_(float(name.endswith("weight")), 0.3, generator=generator)
