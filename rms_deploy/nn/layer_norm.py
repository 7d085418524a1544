"""LayerNorm, to compare with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from rms_deploy.nn.arguments import checked_shape

__all__ = ["LayerNorm"]


class LayerNorm(nn.LayerNorm):
    """The twin to compare with: y = weight * (x - mean) / sqrt(var + epsilon) + bias over the last axes.

    Args:
        shape: size of the last axes; an int is one.
        epsilon: added to the variance.
        scale: whether there are a weight and a bias.
        device: of both.
        dtype: of both.
    """

    def __init__(
        self,
        shape: int | Sequence[int],
        epsilon: float = 1e-5,
        *,
        scale: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(list(checked_shape(shape)), epsilon, elementwise_affine=scale, device=device, dtype=dtype)
