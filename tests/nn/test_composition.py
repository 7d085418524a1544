"""A norm with what stands around it: what is rounded, and where."""

from __future__ import annotations

import pytest
import torch

from rms_deploy.nn.composition import normalized, wide_dtype

X = torch.tensor([1 + 2**-8, 3.0]).double()
"""1 + 2^-8 is no bfloat16 number; times 3 and plus 2^-8 it rounds otherwise at each step."""


def halved(round_before_scale: bool):
    """In the place of a norm."""

    def norm(x: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
        if scale is None:
            return x / 2
        return x / 2 * scale if round_before_scale else (x.double() / 2 * scale.double()).to(x.dtype)

    return norm


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("is_wide", [False, True], ids=["rounded x", "wide x"])
@pytest.mark.parametrize("round_before_scale", [False, True], ids=["once", "first"])
def test_what_is_rounded(round_before_scale, is_wide, dtype) -> None:
    x = X.to(wide_dtype(dtype) if is_wide else dtype)
    scale, shift = torch.tensor([1.0078125, 5.0]).to(dtype), torch.tensor([2**-8, 1 / 3]).to(dtype)
    exact = x.double() / 2
    if round_before_scale:
        first = exact.to(dtype)
        scaled, plain = first * scale, first
        expected = [scaled + shift, scaled, plain + shift, plain]
    else:
        scaled, plain = exact * scale.double(), exact
        expected = [(scaled + shift.double()), scaled, plain + shift.double(), plain]
    given = [(scale, shift), (scale, None), (None, shift), (None, None)]
    for (s, t), e in zip(given, expected, strict=True):
        y = normalized(
            halved(round_before_scale), x, scale=s, shift=t, dtype=dtype, round_before_scale=round_before_scale
        )
        assert y.dtype == dtype
        torch.testing.assert_close(y, e.to(dtype), rtol=0 if dtype.itemsize == 2 else 1e-6, atol=0)


def test_both_orders_differ() -> None:
    x, scale, shift = (torch.randn(64, generator=torch.Generator().manual_seed(seed)).bfloat16() for seed in range(3))
    once, first = (
        normalized(halved(order), x, scale=scale, shift=shift, dtype=x.dtype, round_before_scale=order)
        for order in (False, True)
    )
    assert not torch.equal(once, first)
