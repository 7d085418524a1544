"""A residual addition and RMSNorm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from rms_deploy.errors import InputError
from rms_deploy.nn.composition import Norm, normalized, wide_dtype
from rms_deploy.nn.rms_norm import RMSNorm
from rms_deploy.ops import torch_eager

__all__ = ["AddRMSNorm"]


class AddRMSNorm(RMSNorm):
    """total = x + residual; y = RMSNorm(total).

    In half types the options say what is rounded. In float32 they change nothing:

    | `residual_in_fp32` | `round_before_norm` | total | y is the norm of | as in |
    |---|---|---|---|---|
    | False | True | rounded to the dtype of x | total | Llama |
    | True | True | float32 | total rounded to the dtype of x | Mamba, Mamba-2, Falcon-Mamba |
    | False | False | rounded to the dtype of x | the float32 sum | vLLM |
    | True | False | float32 | total | the fused kernels of mamba_ssm, SGLang |

    Args:
        shape: as in `RMSNorm`.
        epsilon: as in `RMSNorm`.
        residual_in_fp32: whether total is float32, and the residual may be.
        round_before_norm: whether the sum is rounded to the dtype of x before it is normalised.
        **options: as in `RMSNorm`.

    Shape:
        x and residual have one shape, and y and total have it too. y has the dtype of x. The residual has the dtype of
        x, or, with `residual_in_fp32`, that or float32. For float64 x all is float64. Gradients are those of the
        composition, in which a rounding has the gradient 1.

    Raises:
        InputError: as `RMSNorm`; `round_reciprocal` without `round_before_norm`; a residual that is None, or of
            another shape or dtype.

    Source:
        `residual_in_fp32`: Gu and Dao, Mamba, 2023 (`Block` of mamba_ssm). `round_before_norm=False`: `RMSNorm` of vLLM
        with a residual.
    """

    def __init__(
        self,
        shape: int | Sequence[int] | None = None,
        epsilon: float | None = None,
        *,
        residual_in_fp32: bool = False,
        round_before_norm: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(shape, epsilon, **options)
        if self.round_reciprocal and not round_before_norm:
            raise InputError("round_reciprocal: True is not accepted with `round_before_norm=False`; leave one out")
        self.residual_in_fp32 = residual_in_fp32
        self.round_before_norm = round_before_norm

    def forward(  # type: ignore[override]  # its own inputs
        self, x: Tensor, residual: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(y, total), each of the shape of x; `scale` and `shift` as in `RMSNorm`."""
        self._check(x, scale)
        is_plain = self.round_before_norm and not self.residual_in_fp32 and residual is not None
        if not is_plain or shift is not None or self._parameters["bias"] is not None:
            return self.added(x, residual, scale, shift, self._norm)
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

    def added(
        self, x: Tensor, residual: Tensor, scale: Tensor | None, shift: Tensor | None, norm: Norm
    ) -> tuple[Tensor, Tensor]:
        """(y, total), out of a plain `norm`; `scale` and `shift` as in `forward`."""
        if not isinstance(residual, Tensor):
            raise InputError(f"residual: {residual!r} is not accepted; give a tensor, or use RMSNorm if there is none")
        wide = wide_dtype(x.dtype)
        dtypes = (x.dtype, wide) if self.residual_in_fp32 else (x.dtype,)
        if residual.shape != x.shape or residual.dtype not in dtypes:
            accepted = " or ".join(str(dtype) for dtype in dict.fromkeys(dtypes))
            raise InputError(
                f"residual: {residual.dtype} {list(residual.shape)} does not match x, {x.dtype} {list(x.shape)}; "
                f"give it the shape of x, and {accepted}"
            )
        is_wide = self.residual_in_fp32 or not self.round_before_norm
        total = x.to(wide) + residual.to(wide) if is_wide else x + residual
        y = normalized(
            norm,
            total.to(x.dtype) if self.round_before_norm else total,
            scale=self.given_scale(scale),
            shift=self.given_shift(x, shift),
            dtype=x.dtype,
            round_before_scale=self.round_before_scale,
        )
        return y, total if self.residual_in_fp32 else total.to(x.dtype)

    def extra_repr(self) -> str:
        shown = ["residual_in_fp32=True"] * self.residual_in_fp32 + ["round_before_norm=False"] * (
            not self.round_before_norm
        )
        return ", ".join([super().extra_repr(), *shown])
