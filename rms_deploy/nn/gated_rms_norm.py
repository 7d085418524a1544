"""RMSNorm with a gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from rms_deploy.errors import InputError
from rms_deploy.nn.rms_norm import RMSNorm
from rms_deploy.ops import torch_eager

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
        **options: as in `RMSNorm`, but for `axes` and `round_reciprocal`. For groups, x and z have the shape
            (..., groups, n / groups), and `scale_shape` is (groups, n / groups).

    Shape:
        x and z have one shape and dtype, and y has them too. Gradients are those of the composition.

    Raises:
        InputError: as `RMSNorm`; `axes` or `round_reciprocal` is given; z has another shape or dtype than x.

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
        for name in ("axes", "round_reciprocal"):
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
        return self.gated(x, z, self.scale(scale), self._norm)

    def gated(self, x: Tensor, z: Tensor, scale: Tensor, norm: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """y, by a `norm` that takes a float32 x, or one that it rounds as this module says, and a scale."""
        if x.shape != z.shape or x.dtype != z.dtype:
            raise InputError(f"z: {z.dtype} {list(z.shape)} does not match x, {x.dtype} {list(x.shape)}")
        wide = x if x.dtype == torch.float64 else x.float()
        function = nn.functional.silu if self.activation == "silu" else torch.sigmoid
        gate = function(z.to(wide.dtype))
        rounds_first = self.round_before_scale and x.dtype != wide.dtype
        if self.norm_before_gate:
            normed = norm(x, scale) if rounds_first else norm(wide, scale.to(wide.dtype))
            return (normed.to(wide.dtype) * gate).to(x.dtype)
        if rounds_first:
            one = torch.ones((), dtype=wide.dtype, device=x.device)
            return norm(wide * gate, one).to(x.dtype) * scale.to(x.dtype)
        return norm(wide * gate, scale.to(wide.dtype)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, norm_before_gate={self.norm_before_gate}, activation={self.activation}"

    def _norm(self, x: Tensor, scale: Tensor) -> Tensor:
        return torch_eager.rms_norm(
            x, scale, self.axes, self.epsilon, self.rms_epsilon, self.rms_min, self.round_before_scale, False
        )
