"""A residual addition and RMSNorm as a module."""

from __future__ import annotations

import torch

from rms_deploy.nn import AddRMSNorm, RMSNorm

from .norm_numbers import randomized


def test_add_rms_norm() -> None:
    x, residual = torch.randn(3, 16).half(), torch.randn(3, 16).half()
    norm = randomized(AddRMSNorm(16)).half()
    y, total = norm(x, residual)
    torch.testing.assert_close(total, x + residual, rtol=0, atol=0)
    plain = RMSNorm(16).half()
    plain.load_state_dict(norm.state_dict())
    torch.testing.assert_close(y, plain(total), rtol=0, atol=0)


def test_trains() -> None:
    norm = AddRMSNorm(8)
    x = torch.randn(4, 8, requires_grad=True)
    y, total = norm(x, x)
    (y.sum() + total.sum()).backward()
    assert x.grad is not None
    assert norm.weight.grad is not None
