"""A residual addition and RMSNorm as a module."""

from __future__ import annotations

import pytest
import torch

from rms_deploy.errors import InputError
from rms_deploy.exporter.decomposed import decomposed
from rms_deploy.nn import AddRMSNorm, RMSNorm
from rms_deploy.ops import reference

from .norm_numbers import array, assert_near, randomized

HALF = (torch.float16, torch.bfloat16)


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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF], ids=str)
@pytest.mark.parametrize("residual_in_fp32", [False, True], ids=["same", "fp32"])
@pytest.mark.parametrize("round_before_norm", [False, True], ids=["wide sum", "rounded sum"])
@pytest.mark.parametrize("round_before_scale", [False, True], ids=["once", "first"])
@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("spelled", [False, True], ids=["op", "primitives"])
def test_each_residual_stream(dtype, residual_in_fp32, round_before_norm, round_before_scale, bias, spelled) -> None:
    wide = torch.promote_types(dtype, torch.float32)
    x, residual = torch.randn(3, 40, 64).to(dtype), torch.randn(3, 40, 64).to(wide if residual_in_fp32 else dtype)
    norm = AddRMSNorm(
        64,
        bias=bias,
        residual_in_fp32=residual_in_fp32,
        round_before_norm=round_before_norm,
        round_before_scale=round_before_scale,
    )
    norm = randomized(norm).to(dtype)
    with torch.no_grad():
        y, total = (decomposed(norm) if spelled else norm)(x, residual)
    expected, expected_total = reference.add_rms_norm(
        array(x),
        array(residual),
        array(norm.weight),
        in_float32=not round_before_norm and dtype != torch.float64,
        shift=array(norm.bias) if bias else None,
        round_before_scale=round_before_scale,
    )
    assert_near(y, expected)
    assert total.dtype == residual.dtype
    assert (array(total) == expected_total).all()


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_the_bits_of_mamba(dtype) -> None:
    """`MambaBlock` of transformers: the sum is float32, and the norm reads it rounded."""
    x, residual = torch.randn(64, 64).to(dtype), torch.randn(64, 64)
    norm = randomized(AddRMSNorm(64, 1e-5, residual_in_fp32=True, round_before_scale=True)).to(dtype)
    plain = RMSNorm(64, 1e-5, round_before_scale=True).to(dtype)
    plain.load_state_dict(norm.state_dict())
    y, total = norm(x, residual)
    assert torch.equal(total, residual + x)
    assert torch.equal(y, plain(total.to(dtype)))
    _, narrow = norm(x, residual.to(dtype))  # the first block, whose residual is what was embedded
    assert torch.equal(narrow, residual.to(dtype).float() + x)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_the_bits_of_vllm(dtype) -> None:
    """`RMSNorm.forward_native` of vLLM: the float32 sum is normalised, and kept rounded."""
    x, residual = torch.randn(64, 64).to(dtype), torch.randn(64, 64).to(dtype)
    norm = randomized(AddRMSNorm(64, round_before_norm=False, round_before_scale=True)).to(dtype)
    wide = x.float() + residual.float()
    y, total = norm(x, residual)
    assert torch.equal(total, wide.to(dtype))
    assert torch.equal(y, RMSNorm(64, scale=False)(wide).to(dtype) * norm.weight)
    rounded = AddRMSNorm(64, round_before_scale=True).to(dtype)
    rounded.load_state_dict(norm.state_dict())
    assert not torch.equal(y, rounded(x, residual)[0])


def test_a_float32_stream_keeps_what_a_half_one_loses() -> None:
    norm = AddRMSNorm(8, residual_in_fp32=True).half()
    total = torch.full((1, 8), 2048.0)
    for _ in range(8):
        _, total = norm(torch.ones(1, 8).half(), total)
    assert (total == 2056).all()
    plain, lost = AddRMSNorm(8).half(), torch.full((1, 8), 2048.0).half()
    for _ in range(8):
        _, lost = plain(torch.ones(1, 8).half(), lost)
    assert (lost == 2048).all()


@pytest.mark.parametrize("options", [{"residual_in_fp32": True}, {"round_before_norm": False}, {"bias": True}], ids=str)
def test_the_gradients_of_each_residual_stream(options) -> None:
    norm = randomized(AddRMSNorm(8, **options)).double()
    x, residual = (torch.randn(3, 8, dtype=torch.float64, requires_grad=True) for _ in "xr")
    assert torch.autograd.gradcheck(norm, (x, residual))
    half = randomized(AddRMSNorm(8, **options)).half()
    x, residual = torch.randn(3, 8).half().requires_grad_(), torch.randn(3, 8).half().requires_grad_()
    y, total = half(x, residual)
    (y.sum() + total.sum()).backward()
    assert torch.equal(x.grad, residual.grad)
    assert half.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("options", [{"residual_in_fp32": True}, {"round_before_norm": False}, {"bias": True}], ids=str)
def test_each_residual_stream_compiles_into_one_graph(options) -> None:
    norm = randomized(AddRMSNorm(16, **options)).bfloat16()
    x, residual = torch.randn(3, 16).bfloat16(), torch.randn(3, 16).bfloat16()
    compiled = torch.compile(norm, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, residual), norm(x, residual))


def test_what_an_added_norm_refuses() -> None:
    x = torch.ones(3, 8).half()
    with pytest.raises(InputError, match=r"residual: None is not accepted; give a tensor, or use RMSNorm"):
        AddRMSNorm(8)(x, None)
    with pytest.raises(InputError, match=r"give it the shape of x, and torch.float16 or torch.float32"):
        AddRMSNorm(8, residual_in_fp32=True)(x, x.double())
    with pytest.raises(InputError, match=r"residual: torch.float16 \[1, 8\] does not match x, torch.float16 \[3, 8\]"):
        AddRMSNorm(8, residual_in_fp32=True)(x, x[:1])
    with pytest.raises(InputError, match=r"give it the shape of x, and torch.float16$"):
        AddRMSNorm(8, round_before_norm=False)(x, x.float())
    with pytest.raises(InputError, match="round_reciprocal: True is not accepted with `round_before_norm=False`"):
        AddRMSNorm(8, round_before_norm=False, round_reciprocal=True)
    text = repr(AddRMSNorm(8, residual_in_fp32=True, round_before_norm=False))
    assert "residual_in_fp32=True, round_before_norm=False" in text
    assert "fp32" not in repr(AddRMSNorm(8))
