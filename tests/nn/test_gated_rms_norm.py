"""RMSNorm with a gate as a module."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rms_deploy.errors import InputError
from rms_deploy.exporter.decomposed import decomposed
from rms_deploy.nn import GatedRMSNorm
from rms_deploy.ops.reference import gated_rms_norm

from .norm_numbers import randomized


@pytest.mark.parametrize("activation", ["silu", "sigmoid"])
@pytest.mark.parametrize("norm_before_gate", [True, False], ids=["behind", "in front"])
@pytest.mark.parametrize("round_before_scale", [False, True], ids=["once", "first"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("spelled", [False, True], ids=["op", "primitives"])
def test_a_gated_norm(dtype, round_before_scale, norm_before_gate, activation, spelled) -> None:
    x, z = (torch.randn(3, 4, 64, generator=torch.Generator().manual_seed(seed)).to(dtype) for seed in (1, 2))
    options = {"norm_before_gate": norm_before_gate, "round_before_scale": round_before_scale}
    norm = randomized(GatedRMSNorm(64, activation=activation, **options)).to(dtype)
    with torch.no_grad():
        y = (decomposed(norm) if spelled else norm)(x, z)
    arrays = (tensor.detach().numpy() for tensor in (x, z, norm.weight))
    gate = {"silu": "SiluGate", "sigmoid": "SigmoidGate"}[activation]
    expected = gated_rms_norm(*arrays, gate=gate, before=not norm_before_gate, round_before_scale=round_before_scale)
    assert y.dtype == dtype
    if dtype == torch.float16:  # a float32 intermediate tips the rounding of one element in some hundreds
        assert np.mean(y.numpy() != expected) < 0.01
    else:
        eps = torch.finfo(dtype).eps
        np.testing.assert_allclose(y.numpy(), expected, rtol=16 * eps, atol=16 * eps)


def test_the_gradients_of_a_gated_norm() -> None:
    for norm_before_gate in (True, False):
        norm = randomized(GatedRMSNorm(8, norm_before_gate=norm_before_gate)).double()
        x, z = (torch.randn(3, 8, dtype=torch.float64, requires_grad=True) for _ in "xz")
        assert torch.autograd.gradcheck(lambda x, z, norm=norm: norm(x, z), (x, z))


def test_what_a_gated_norm_refuses() -> None:
    with pytest.raises(InputError, match=r"axes: .* is not accepted by a gated norm"):
        GatedRMSNorm(8, axes=[-2])
    with pytest.raises(InputError, match="activation: 'relu' is not accepted; use silu, sigmoid"):
        GatedRMSNorm(8, activation="relu")
    with pytest.raises(InputError, match="round_reciprocal: True is not accepted by a gated norm"):
        GatedRMSNorm(8, round_reciprocal=True)
    with pytest.raises(InputError, match=r"z: torch.float32 \[1, 8\] does not match x, torch.float32 \[3, 8\]"):
        GatedRMSNorm(8)(torch.ones(3, 8), torch.ones(1, 8))
    with pytest.raises(InputError, match="bias: True is not accepted by a gated norm"):
        GatedRMSNorm(8, bias=True)
    with pytest.raises(InputError, match="z: None is not accepted; give the gate, a tensor, or use RMSNorm"):
        GatedRMSNorm(8)(torch.ones(3, 8), None)
    assert "norm_before_gate=True" in repr(GatedRMSNorm(8))
