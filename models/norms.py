"""The norm of a built-in model: RMSNorm, or one of its two twins."""

from __future__ import annotations

from typing import Literal

from torch import nn

from rms_deploy.errors import InputError
from rms_deploy.nn import LayerNorm, PartialRMSNorm, RMSNorm

__all__ = ["NormKind", "make_norm"]

NormKind = Literal["rmsnorm", "prmsnorm", "layernorm"]

_FRACTION = 0.0625
"""Of the elements that pRMSNorm reads, as in section 6 of the paper."""


def make_norm(kind: NormKind, size: int, epsilon: float, *, round_before_scale: bool) -> nn.Module:
    """A norm over the last axis, of `size` elements.

    Raises:
        InputError: no such kind.
    """
    if kind == "rmsnorm":
        return RMSNorm(size, epsilon, round_before_scale=round_before_scale)
    if kind == "prmsnorm":
        return PartialRMSNorm(size, _FRACTION, epsilon, round_before_scale=round_before_scale)
    if kind == "layernorm":
        return LayerNorm(size, epsilon)
    raise InputError(f"norm {kind!r} is not known; use rmsnorm, prmsnorm or layernorm")
