"""RMSNorm and pRMSNorm, with and without a shift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rms_deploy.errors import InputError
from rms_deploy.nn.arguments import checked_axes, checked_shape, either, not_negative, partial_size_of
from rms_deploy.nn.composition import Norm, normalized
from rms_deploy.ops import torch_eager
from rms_deploy.ops.scale_shape import why_not_taken

__all__ = ["PartialRMSNorm", "RMSNorm"]


class RMSNorm(nn.Module):
    """y = (scale_offset + weight) * x / max(sqrt(mean(x^2 over axes) + epsilon) + rms_epsilon, rms_min) + bias

    Statistics are float32 (float64 for float64 input), whatever the dtype of the module. The bias is added where the
    scale is applied: in float32 before the one rounding, or, with `round_before_scale`, in the dtype of x to what was
    scaled and rounded.

    Args:
        shape: size of the normalised axes; an int is one axis.
        epsilon: added to the mean square, inside the root; default 1e-6.
        scale: whether there is a weight, of shape `shape` and a 1 for each axis behind the block; it starts at
            1 - `scale_offset`, so that the whole scale is 1. Default: there is one.
        bias: whether there is a shift that is learned, of the shape of the weight; it starts at 0. Default: there is
            none.
        normalized_shape: `shape` by the name that `torch.nn.RMSNorm` has for it.
        eps: `epsilon` by that name.
        elementwise_affine: `scale` by that name.
        rms_epsilon: added to the root (the paper's original code).
        rms_min: lower bound of the root.
        round_before_scale: False: the result is rounded once (Gemma, T5 in float32). True: x / rms is rounded to the
            dtype of x, and then multiplied by the scale in that dtype (Llama, ONNX RMSNormalization).
        round_reciprocal: True: 1 / rms is rounded to the dtype of x, which is then multiplied by it and by the scale
            in that dtype (DeepSeek-V4's norm without scale); `round_before_scale` is then True. In float32 it changes
            nothing.
        scale_offset: 1 where the weight is stored as the distance from 1 (Gemma).
        scale_shape: shape of a weight that has several rows, such as (groups, n / groups) beside x (..., groups,
            n / groups); it broadcasts to x, as `rms_deploy.ops.scale_shape` says. Default: one row for all.
        axes: the contiguous block of axes, counted from the end (negative); default the last `len(shape)`.
        device: of weight and bias.
        dtype: of weight and bias.

    Shape:
        Any x whose `axes` have the sizes `shape`; y has the shape and dtype of x. A weight of several rows, and a scale
        that is given to `forward`, are computed with in torch's operators, not by the compiled kernels. A shift is
        always added by torch's operators, and gradients with one are those of the composition.

    Raises:
        InputError: a bad shape, axis or epsilon, or a bias without a weight, here; an x of other sizes, or a scale or
            shift that does not broadcast to x, in `forward`.

    Source:
        Zhang and Sennrich, Root Mean Square Layer Normalization, 2019, section 4, equation 4. It has no bias: that is
        of `RMSNorm(bias=True)` in diffusers, and of norms that a diffusion model modulates.
    """

    partial_size: int | None = None
    """Number of elements that the mean square is over; None: all."""

    def __init__(
        self,
        shape: int | Sequence[int] | None = None,
        epsilon: float | None = None,
        *,
        scale: bool | None = None,
        bias: bool = False,
        normalized_shape: int | Sequence[int] | None = None,
        eps: float | None = None,
        elementwise_affine: bool | None = None,
        rms_epsilon: float = 0.0,
        rms_min: float = 0.0,
        round_before_scale: bool = False,
        round_reciprocal: bool = False,
        scale_offset: float = 0.0,
        scale_shape: Sequence[int] | None = None,
        axes: Sequence[int] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        scale = either("scale", scale, "elementwise_affine", elementwise_affine, True)
        self.shape = checked_shape(either("shape", shape, "normalized_shape", normalized_shape, ()))
        self.axes = checked_axes(axes, len(self.shape))
        self.epsilon = not_negative("epsilon", either("epsilon", epsilon, "eps", eps, 1e-6))
        self.rms_epsilon = not_negative("rms_epsilon", rms_epsilon)
        self.rms_min = not_negative("rms_min", rms_min)
        self.round_before_scale = round_before_scale or round_reciprocal
        self.round_reciprocal = round_reciprocal
        self.scale_offset = scale_offset
        self.scale_shape = None if scale_shape is None else checked_shape(scale_shape, "scale_shape")
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        if scale:
            broadcast = self.scale_shape or (*self.shape, *[1] * (-1 - self.axes[-1]))
            self.weight: nn.Parameter | None = nn.Parameter(torch.full(broadcast, 1.0 - scale_offset, **options))
        elif scale_shape is not None or bias:
            name = "bias" if scale_shape is None else "scale_shape"
            raise InputError(f"{name}: there is no weight, as `scale` is False; leave one of them out")
        else:
            self.register_parameter("weight", None)
            self.register_buffer("unit", torch.ones((), **options), persistent=False)
        if bias:
            self.bias: nn.Parameter | None = nn.Parameter(torch.zeros(broadcast, **options))
        else:
            self.register_parameter("bias", None)

    def scale(self, given: Tensor | None = None) -> Tensor:
        """What x / rms is multiplied by: the weight itself; with an offset, their float32 sum; without a weight, 1.

        Args:
            given: takes the place of the weight.
        """
        weight = self.weight if given is None else given
        if weight is None:
            unit: Tensor = self.get_buffer("unit")
            return unit
        if not self.scale_offset:
            return weight
        wide = weight if weight.dtype == torch.float64 else weight.float()
        return wide + self.scale_offset

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """y: shape and dtype of x.

        Args:
            x: what is normalised.
            scale: takes the place of the weight, such as one scale for each sample, of shape (batch, 1, n).
            shift: takes the place of the bias. The modulation of a diffusion model, norm(x) * (1 + s) + t, is
                `norm(x, s, t)` of a norm with a `scale_offset` of 1.
        """
        self._check(x, scale)
        if shift is not None or self._parameters["bias"] is not None:  # self.bias takes ten times as long
            return self.shifted(x, scale, shift, self._norm)
        return self._norm(x, self.scale(scale))

    def shifted(self, x: Tensor, scale: Tensor | None, shift: Tensor | None, norm: Norm) -> Tensor:
        """y with a shift, out of a plain `norm`; `scale` and `shift` as in `forward`."""
        return normalized(
            norm,
            x,
            scale=self.given_scale(scale),
            shift=self.given_shift(x, shift),
            dtype=x.dtype,
            round_before_scale=self.round_before_scale,
        )

    def given_scale(self, scale: Tensor | None) -> Tensor | None:
        """As `scale`; None: there is neither a weight nor a scale that takes its place."""
        return None if scale is None and self.weight is None else self.scale(scale)

    def given_shift(self, x: Tensor, shift: Tensor | None) -> Tensor | None:
        """What is added: `shift`, else the bias, else None.

        Raises:
            InputError: it does not broadcast to x.
        """
        added = self.bias if shift is None else shift
        why_not = None if added is None else why_not_taken(added.shape, x.shape, self.axes)
        if added is not None and why_not is not None:
            raise InputError(f"shift: shape {list(added.shape)} {why_not}; x has shape {list(x.shape)}")
        return added

    def extra_repr(self) -> str:
        options = ["rms_epsilon", "rms_min", "round_before_scale", "round_reciprocal", "scale_offset", "scale_shape"]
        shown = [f"{name}={getattr(self, name)}" for name in options if getattr(self, name)]
        shown += ["bias=True"] * (self.bias is not None)
        return ", ".join([f"{list(self.shape)}", f"axes={self.axes}", f"epsilon={self.epsilon}", *shown])

    def _norm(self, x: Tensor, scale: Tensor | None) -> Tensor:
        return torch_eager.rms_norm(
            x,
            torch.ones((), dtype=x.dtype, device=x.device) if scale is None else scale,
            self.axes,
            self.epsilon,
            self.rms_epsilon,
            self.rms_min,
            self.round_before_scale,
            self.round_reciprocal,
            self.partial_size,
        )

    def _check(self, x: Tensor, scale: Tensor | None) -> None:
        if x.shape[self.axes[0] : self.axes[-1] + 1 or None] != self.shape:
            raise InputError(f"x: shape {list(x.shape)} does not have sizes {list(self.shape)} at axes {self.axes}")
        scale_shape = self.scale_shape if scale is None else scale.shape
        why_not = None if scale_shape is None else why_not_taken(scale_shape, x.shape, self.axes)
        if why_not is not None:
            raise InputError(f"scale: shape {list(scale_shape or ())} {why_not}; x has shape {list(x.shape)}")


class PartialRMSNorm(RMSNorm):
    """RMSNorm whose mean square is over the first k of the n normalised elements, in row-major order (pRMSNorm).

    Args:
        shape: as in `RMSNorm`; n is its product.
        p: a fraction, 0 < p <= 1: k = ceil(n * p), exactly, with p the decimal that was written; or a size, an int in
            1 ... n: k = p. So 1.0 is all and 1 is one.
        epsilon: as in `RMSNorm`.
        **options: as in `RMSNorm`.

    Raises:
        InputError: `p` is outside its range; or as in `RMSNorm`.

    Source:
        Zhang and Sennrich, Root Mean Square Layer Normalization, 2019, section 5 (pRMSNorm), where k = ceil(n * p).
        The authors' code takes floor(n * p), which is 0 for small n; give a size to have it.
    """

    def __init__(self, shape: int | Sequence[int], p: float, epsilon: float | None = None, **options: Any) -> None:
        super().__init__(shape, epsilon, **options)
        self.partial_size = partial_size_of(p, math.prod(self.shape))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, partial_size={self.partial_size}"
