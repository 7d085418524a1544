"""The norm of a built-in model, by name: RMSNorm, or one of its twins."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from rms_deploy.errors import InputError
from rms_deploy.nn import LayerNorm, PartialRMSNorm, RMSNorm

__all__ = ["DEFAULT_FRACTION", "make_norm"]

DEFAULT_FRACTION: Final = 0.0625
"""Of the elements that pRMSNorm reads, as in section 6 of the paper."""


class ChannelLayerNorm(LayerNorm):
    """LayerNorm over axis 1 of [batch, channels, height, width], as ConvNeXt has it."""

    def forward(self, x: Tensor) -> Tensor:
        """y: shape of x."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def make_norm(
    norm: str, size: int, epsilon: float, *, round_before_scale: bool = False, channels: bool = False
) -> nn.Module:
    """A norm of `size` elements.

    Args:
        norm: rmsnorm, prmsnorm (p = 0.0625), prmsnorm:P (0 < P <= 1), layernorm, or none (the identity).
        size: of the normalised axis.
        epsilon: added to the mean square or the variance.
        round_before_scale: as in `rms_deploy.nn.RMSNorm`; LayerNorm rounds once.
        channels: over axis 1 of [batch, channels, height, width] in place of the last axis.

    Raises:
        InputError: no such norm, or a fraction outside its range.
    """
    kind, colon, text = norm.partition(":")
    axes = [-3] if channels else [-1]
    if kind == "prmsnorm":
        p = _fraction(norm, text) if colon else DEFAULT_FRACTION
        return PartialRMSNorm(size, p, epsilon, round_before_scale=round_before_scale, axes=axes)
    if norm == "rmsnorm":
        return RMSNorm(size, epsilon, round_before_scale=round_before_scale, axes=axes)
    if norm == "layernorm":
        return ChannelLayerNorm(size, epsilon) if channels else LayerNorm(size, epsilon)
    if norm == "none":
        return nn.Identity()
    raise InputError(f"kind of norm {norm!r} is not known; use rmsnorm, prmsnorm, prmsnorm:P, layernorm or none")


def _fraction(norm: str, text: str) -> float:
    try:
        p = float(text)
    except ValueError:
        p = 0.0
    if not 0 < p <= 1:
        raise InputError(f"kind of norm {norm!r}: {text!r} is no fraction; use 0 < P <= 1, as in prmsnorm:0.25")
    return p
