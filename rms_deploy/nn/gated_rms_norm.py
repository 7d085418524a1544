"""RMSNorm with a gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from rms_deploy.errors import InputError
from rms_deploy.nn.composition import Norm, normalized, wide_dtype
from rms_deploy.nn.rms_norm import RMSNorm

__all__ = ["Activation", "GatedRMSNorm"]

Activation = Literal["silu", "sigmoid"]
"""Of the gate of a `GatedRMSNorm`."""


class GatedRMSNorm(RMSNorm):
    """y = RMSNorm(x) * g, or y = RMSNorm(x * g), where g = z * sigmoid(z) or sigmoid(z), in float32.

    With `norm_before_gate` the norm is rounded as `round_before_scale` says: to the dtype of x before the gate (True;
    Qwen3-Next), or not at all (False; Kimi Linear). Without it x * g is not rounded (Mamba2: False and
    `round_before_scale` True). The result is rounded to the dtype of x.

    Args:
        shape: as in `RMSNorm`, of the last axes.
        epsilon: as in `RMSNorm`.
        norm_before_gate: whether the gate multiplies the result of the norm, and not x.
        activation: of the gate, "silu" or "sigmoid".
        **options: as in `RMSNorm`, but for `axes`, `bias` and `round_reciprocal`. For groups, x and z have the shape
            (..., groups, n / groups), and `scale_shape` is (groups, n / groups).

    Shape:
        x and z have one shape and dtype, and y has them too. Gradients are those of the composition.

    Raises:
        InputError: as `RMSNorm`; `axes`, `bias` or `round_reciprocal` is given; z is no tensor, or has another shape or
            dtype than x.

    Source:
        Dao and Gu, Transformers are SSMs, 2024, section 7 (the gate in front, of Mamba-2).
    """

    def __init__(
        self,
        shape: int | Sequence[int] | None = None,
        epsilon: float | None = None,
        *,
        norm_before_gate: bool = True,
        activation: Activation = "silu",
        **options: Any,
    ) -> None:
        for name in ("axes", "bias", "round_reciprocal"):
            if options.get(name):
                raise InputError(f"{name}: {options[name]!r} is not accepted by a gated norm; leave it out")
        if activation not in get_args(Activation):
            raise InputError(f"activation: {activation!r} is not accepted; use {', '.join(get_args(Activation))}")
        super().__init__(shape, epsilon, **options)
        self.norm_before_gate = norm_before_gate
        self.activation = activation

    def forward(  # type: ignore[override]  # its own inputs
        self, x: Tensor, z: Tensor, scale: Tensor | None = None
    ) -> Tensor:
        """y: shape and dtype of x; `scale` as in `RMSNorm`."""
        self._check(x, scale)
        return self.gated(x, z, scale, self._norm)

    def gated(self, x: Tensor, z: Tensor, scale: Tensor | None, norm: Norm) -> Tensor:
        """y, out of a plain `norm`; `scale` as in `forward`."""
        if not isinstance(z, Tensor):
            raise InputError(f"z: {z!r} is not accepted; give the gate, a tensor, or use RMSNorm where there is none")
        if x.shape != z.shape or x.dtype != z.dtype:
            raise InputError(f"z: {z.dtype} {list(z.shape)} does not match x, {x.dtype} {list(x.shape)}")
        wide = wide_dtype(x.dtype)
        gate = nn.functional.silu(z.to(wide)) if self.activation == "silu" else torch.sigmoid(z.to(wide))
        options: dict[str, Any] = {"scale": self.given_scale(scale), "round_before_scale": self.round_before_scale}
        if not self.norm_before_gate:
            return normalized(norm, x.to(wide) * gate, dtype=x.dtype, **options)
        dtype = x.dtype if self.round_before_scale else wide
        return (normalized(norm, x.to(dtype), dtype=dtype, **options).to(wide) * gate).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, norm_before_gate={self.norm_before_gate}, activation={self.activation}"
