"""The norms of `rms_deploy.nn` spelled in torch's own primitives, as most model code spells them.

`export(..., norm="decomposed")` puts these in the place of the originals, so that the file looks as users' files do.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rms_deploy.nn import AddRMSNorm, GatedRMSNorm, RMSNorm

__all__ = ["DecomposedAddRMSNorm", "DecomposedGatedRMSNorm", "DecomposedRMSNorm", "decomposed"]


class DecomposedRMSNorm(nn.Module):
    """What `norm` computes (RMSNorm or PartialRMSNorm), as pow, mean, rsqrt and mul, sharing its weight.

    With a default root it is x * rsqrt(mean(x^2) + epsilon); `rms_epsilon` and `rms_min` need x / max(sqrt(...) + ...).
    """

    def __init__(self, norm: RMSNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """y: shape and dtype of x; `scale` takes the place of the weight, `shift` that of the bias."""
        if shift is None and self.norm.bias is None:
            return self._scaled(x, self.norm.given_scale(scale))
        return self.norm.shifted(x, scale, shift, self._scaled)

    def _scaled(self, x: Tensor, scale: Tensor | None) -> Tensor:
        """y; `scale` is all that x / rms is multiplied by, with the offset of the weight."""
        norm = self.norm
        wide = x if x.dtype == torch.float64 else x.float()
        mean_square = self._mean_square(wide) + norm.epsilon
        if norm.rms_epsilon or norm.rms_min:
            rms = torch.sqrt(mean_square) + norm.rms_epsilon
            rms = torch.clamp(rms, min=norm.rms_min) if norm.rms_min else rms
            normed = x * (1 / rms).to(x.dtype) if norm.round_reciprocal else wide / rms
        elif norm.round_reciprocal:
            normed = x * torch.rsqrt(mean_square).to(x.dtype)
        else:
            normed = wide * torch.rsqrt(mean_square)
        if scale is None:
            return normed.to(x.dtype)
        if norm.round_before_scale:
            return scale.to(x.dtype) * normed.to(x.dtype)
        return (normed * scale.to(wide.dtype)).to(x.dtype)

    def _mean_square(self, wide: Tensor) -> Tensor:
        axes, size = self.norm.axes, self.norm.partial_size
        if size is None:
            return wide.pow(2).mean(axes, keepdim=True)
        # Flattening one axis changes nothing, but the legacy exporter would write a Reshape for it.
        flat = wide.flatten(axes[0], axes[-1]) if len(axes) > 1 else wide
        first = flat.narrow(axes[-1], 0, size)
        mean: Tensor = first.pow(2).mean(axes[-1], keepdim=True)
        for _ in axes[1:]:
            mean = mean.unsqueeze(axes[-1])
        return mean


class DecomposedAddRMSNorm(DecomposedRMSNorm):
    """The same for AddRMSNorm."""

    norm: AddRMSNorm

    def forward(  # type: ignore[override]  # its own inputs
        self, x: Tensor, residual: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(y, total), each of the shape of x; `scale` takes the place of the weight, `shift` that of the bias."""
        return self.norm.added(x, residual, scale, shift, self._scaled)


class DecomposedGatedRMSNorm(DecomposedRMSNorm):
    """The same for GatedRMSNorm."""

    norm: GatedRMSNorm

    def forward(  # type: ignore[override]  # its own inputs
        self, x: Tensor, z: Tensor, scale: Tensor | None = None
    ) -> Tensor:
        """y: shape and dtype of x; `scale` takes the place of the weight."""
        return self.norm.gated(x, z, scale, self._scaled)


def decomposed(module: nn.Module) -> Any:
    """The twin of `module` if it is a norm of ours, else None."""
    if isinstance(module, AddRMSNorm):
        return DecomposedAddRMSNorm(module)
    if isinstance(module, GatedRMSNorm):
        return DecomposedGatedRMSNorm(module)
    return DecomposedRMSNorm(module) if isinstance(module, RMSNorm) else None
