"""One norm on its own: where nothing else is measured."""

from __future__ import annotations

import torch

from rms_deploy.models.example import Example, randomize
from rms_deploy.models.norms import make_norm

__all__ = ["norm_4096"]


def norm_4096(norm: str = "rmsnorm", *, seed: int = 0) -> Example:
    """A norm of width 4096, the hidden size of a decoder with 7 billion parameters; scale N(1, 0.3)."""
    module = make_norm(norm, 4096, 1e-5, round_before_scale=True)
    randomize(module, seed)
    x = torch.randn(128, 4096, generator=torch.Generator().manual_seed(seed + 1))
    return Example(module, (x,), ({0: "rows"},), ("y",))
