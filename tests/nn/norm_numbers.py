"""Random weights, and the norm in float64."""

from __future__ import annotations

import torch

__all__ = ["formula", "randomized"]


def formula(x, scale, *, axes=(-1,), epsilon=1e-6, rms_epsilon=0.0, rms_min=0.0):
    rms = torch.sqrt(x.double().square().mean(axes, keepdim=True) + epsilon) + rms_epsilon
    return x.double() / rms.clamp(min=rms_min) * scale


@torch.no_grad()
def randomized(module: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module
