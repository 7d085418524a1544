"""A norm with what stands around it, out of a plain norm and torch's operators. `export` makes one op of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Norm", "normalized", "wide_dtype"]

Norm = Callable[[Tensor, Tensor | None], Tensor]
"""Of x and a scale (None: one), the norm that a module computes without what stands around it: x / rms times scale.

The result has the shape and dtype of x. Rounding is that of the module.
"""


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """That of what is not rounded: float32, or float64 beside float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def normalized(
    norm: Norm,
    x: Tensor,
    *,
    scale: Tensor | None,
    shift: Tensor | None = None,
    dtype: torch.dtype,
    round_before_scale: bool,
) -> Tensor:
    """y = x / rms * scale + shift, in `dtype`.

    Args:
        norm: see `Norm`.
        x: in `dtype`, or wider where it was not rounded.
        scale: broadcasts to x; None is 1.
        shift: broadcasts to x; None is 0.
        dtype: of y.
        round_before_scale: True: x / rms is rounded to `dtype`, then its product with scale is, then the sum is. False:
            y is rounded once.
    """
    wide = wide_dtype(dtype)
    if x.dtype == dtype != wide and shift is None:
        return norm(x, scale)
    step = dtype if round_before_scale else wide
    scale = None if scale is None else scale.to(step)
    if x.dtype == step or not round_before_scale:
        y = norm(x.to(step), scale)
    else:
        y = norm(x, None).to(step)
        y = y if scale is None else y * scale
    return (y if shift is None else y + shift.to(step)).to(dtype)
