"""A residual addition and RMSNorm."""

from __future__ import annotations

from torch import Tensor

from rms_deploy.nn.rms_norm import RMSNorm
from rms_deploy.ops import torch_eager

__all__ = ["AddRMSNorm"]


class AddRMSNorm(RMSNorm):
    """total = x + residual, rounded to their dtype; y = RMSNorm(total). Arguments as in `RMSNorm`."""

    def forward(  # type: ignore[override]  # its own inputs
        self, x: Tensor, residual: Tensor, scale: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(y, total), each of the shape and dtype of x; `scale` as in `RMSNorm`."""
        self._check(x, scale)
        return torch_eager.add_rms_norm(
            x,
            residual,
            self.scale(scale),
            self.axes,
            self.epsilon,
            self.rms_epsilon,
            self.rms_min,
            self.round_before_scale,
            self.round_reciprocal,
        )
