"""One norm on its own: where nothing else is measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rms_deploy.models.norms import NormKind, make_norm

__all__ = ["norm_4096"]


@torch.no_grad()
def norm_4096(
    norm: NormKind = "rmsnorm", *, seed: int = 0
) -> tuple[nn.Module, tuple[Tensor], dict[str, Any], tuple[str]]:
    """A norm of width 4096, the hidden size of a decoder with 7 billion parameters; scale N(1, 0.3)."""
    generator = torch.Generator().manual_seed(seed)
    module = make_norm(norm, 4096, 1e-5, round_before_scale=True)
    for name, parameter in module.named_parameters():
        parameter.normal_(float(name.endswith("weight")), 0.3, generator=generator)
    x = torch.randn(128, 4096, generator=generator)
    return module, (x,), {"x": {0: "rows"}}, ("y",)
