"""RMSNorm and pRMSNorm: what they compute, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rms_deploy.errors import InputError
from rms_deploy.exporter.decomposed import decomposed
from rms_deploy.nn import AddRMSNorm, PartialRMSNorm, RMSNorm
from rms_deploy.ops import reference

from .norm_numbers import array, assert_near, formula, randomized


def test_rms_norm() -> None:
    x = torch.randn(3, 5, 16)
    norm = randomized(RMSNorm(16, 1e-5))
    torch.testing.assert_close(norm(x).double(), formula(x, norm.weight, epsilon=1e-5), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"rms_epsilon": 0.3}, {"rms_min": 1.5}, {"epsilon": 0.2, "rms_epsilon": 0.3, "rms_min": 1.5}]
)
def test_every_epsilon(options) -> None:
    x = torch.randn(3, 5, 16)
    torch.testing.assert_close(RMSNorm(16, **options)(x).double(), formula(x, 1.0, **options), rtol=1e-6, atol=1e-6)


def test_a_rounded_reciprocal() -> None:
    x = torch.randn(64, 16).to(torch.bfloat16)
    norm = RMSNorm(16, 1e-5, scale=False, round_reciprocal=True)
    expected = x * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5).to(x.dtype)
    assert torch.equal(norm(x), expected)
    assert not torch.equal(RMSNorm(16, 1e-5, scale=False)(x), expected)
    partial = PartialRMSNorm(16, 16, 1e-5, scale=False, round_reciprocal=True)
    y, total = AddRMSNorm(16, 1e-5, scale=False, round_reciprocal=True)(x, torch.zeros_like(x))
    assert torch.equal(partial(x), expected)
    assert torch.equal(y, expected)
    assert torch.equal(total, x)
    assert norm.round_before_scale
    assert "round_reciprocal=True" in repr(norm)


def test_scale_offset_starts_at_one_and_is_added() -> None:
    x = torch.randn(4, 16)
    norm = RMSNorm(16, scale_offset=1.0)
    assert not norm.weight.any()
    torch.testing.assert_close(norm(x), RMSNorm(16)(x))
    randomized(norm)
    torch.testing.assert_close(norm(x).double(), formula(x, 1 + norm.weight), rtol=1e-6, atol=1e-6)


def test_scale_offset_is_added_in_float32() -> None:
    norm = RMSNorm(4, scale_offset=1.0, dtype=torch.float16)
    with torch.no_grad():
        norm.weight.fill_(2**-12)  # 1 + 2^-12 is not a float16 number
    assert norm.scale().dtype == torch.float32
    assert norm.scale()[0] == 1 + 2**-12


def test_a_weight_of_several_rows() -> None:
    x = torch.randn(3, 5, 4, 16)
    for shape in ((4, 16), (4, 1), (5, 1, 16)):
        norm = randomized(RMSNorm(16, scale_shape=shape))
        assert norm.weight.shape == shape
        torch.testing.assert_close(norm(x).double(), formula(x, norm.weight), rtol=1e-6, atol=1e-6)
        assert f"scale_shape={shape}" in repr(norm)
    with pytest.raises(InputError, match=r"scale: shape \[4, 16\] does not broadcast to x; x has shape \[3, 5, 16\]"):
        RMSNorm(16, scale_shape=(4, 16))(x[:, :, 0])


def test_a_scale_for_each_sample() -> None:
    x, scale = torch.randn(3, 5, 16), torch.randn(3, 1, 16, requires_grad=True)
    norm = RMSNorm(16, scale=False, scale_offset=1.0)
    y = norm(x, scale)
    torch.testing.assert_close(y.double(), formula(x, 1 + scale), rtol=1e-6, atol=1e-6)
    y.sum().backward()
    expected = formula(x, 1.0).sum(1, keepdim=True)
    torch.testing.assert_close(scale.grad.double(), expected, rtol=1e-5, atol=1e-5)
    total = AddRMSNorm(16)(x, x, scale)[0]
    torch.testing.assert_close(total.double(), formula(2 * x, scale), rtol=1e-6, atol=1e-6)


def test_no_scale() -> None:
    x = torch.randn(4, 16)
    norm = RMSNorm(16, scale=False)
    assert list(norm.parameters()) == []
    assert norm.state_dict() == {}
    torch.testing.assert_close(norm(x), RMSNorm(16)(x))
    assert norm.half()(x.half()).dtype == torch.float16


def test_axes() -> None:
    x = torch.randn(2, 6, 3, 4)
    channels = randomized(RMSNorm(6, axes=[-3]))
    assert channels.weight.shape == (6, 1, 1)
    torch.testing.assert_close(channels(x).double(), formula(x, channels.weight, axes=(1,)), rtol=1e-6, atol=1e-6)
    block = randomized(RMSNorm((3, 4)))
    torch.testing.assert_close(block(x).double(), formula(x, block.weight, axes=(-2, -1)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_rounding_order_follows_the_dtype_of_x(dtype) -> None:
    x = torch.randn(64, 64).to(dtype)
    norm = randomized(RMSNorm(64, round_before_scale=True)).to(dtype)
    expected = formula(x, 1.0).to(dtype) * norm.weight
    # float32 statistics move a rounding in 2^-8 of the elements at most; the other order would move about 1 in 4
    assert float((norm(x) == expected).float().mean()) > 0.99


@pytest.mark.parametrize(
    ("p", "n", "k"),
    [
        (1.0, 16, 16),
        (1, 16, 1),
        (16, 16, 16),
        (0.0625, 16, 1),
        (0.0625, 17, 2),
        (1e-9, 16, 1),
        (0.5, 7, 4),
        (0.07, 100, 7),  # in floats, 7.000000000000001
        (0.14, 100, 14),
        (0.07, 101, 8),
        (np.float64(0.07), 100, 7),
    ],
)
def test_partial_size_is_the_ceiling_of_a_fraction(p, n, k) -> None:
    norm = PartialRMSNorm(n, p)
    assert norm.partial_size == k
    x = torch.randn(3, n)
    rms = torch.sqrt(x[:, :k].double().square().mean(-1, keepdim=True) + 1e-6)
    torch.testing.assert_close(norm(x).double(), x.double() / rms, rtol=1e-5, atol=1e-6)


def test_partial_of_several_axes_counts_in_row_major_order() -> None:
    x = torch.randn(3, 4, 5)
    norm = PartialRMSNorm((4, 5), 7)
    rms = torch.sqrt(x.flatten(1)[:, :7].square().mean(-1) + 1e-6)
    torch.testing.assert_close(norm(x), x / rms[:, None, None])


def test_state_dict_is_that_of_torch() -> None:
    theirs = randomized(torch.nn.RMSNorm(8, eps=1e-6))
    ours = RMSNorm(8)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(4, 8)
    torch.testing.assert_close(ours(x), theirs(x))


def test_repr_says_what_differs_from_the_default() -> None:
    assert repr(RMSNorm(8)) == "RMSNorm([8], axes=[-1], epsilon=1e-06)"
    assert "scale_offset=1.0" in repr(RMSNorm(8, scale_offset=1.0))
    assert "partial_size=2" in repr(PartialRMSNorm(8, 0.25))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RMSNorm(0), "shape: 0 is not accepted"),
        (lambda: RMSNorm([]), r"shape: \[\] is not accepted"),
        (lambda: RMSNorm([4, 2.5]), r"shape: \[4, 2.5\] is not accepted"),
        (lambda: RMSNorm(4, -1e-6), "epsilon: -1e-06 is not accepted"),
        (lambda: RMSNorm(4, rms_epsilon=math.inf), "rms_epsilon: inf is not accepted"),
        (lambda: RMSNorm(4, rms_min=math.nan), "rms_min: nan is not accepted"),
        (lambda: RMSNorm(4, axes=[1]), r"axes: \[1\] is not accepted"),
        (lambda: RMSNorm((4, 5), axes=[-1, -3]), r"axes: \[-1, -3\] is not accepted"),
        (lambda: RMSNorm(4, axes=[-1, -2]), "one contiguous negative axis for each of 1 sizes"),
        (lambda: RMSNorm(4, scale_shape=(0, 4)), r"scale_shape: \(0, 4\) is not accepted"),
        (lambda: RMSNorm(4, scale=False, scale_shape=(2, 4)), "scale_shape: there is no weight"),
        (lambda: RMSNorm(4, scale=False, bias=True), "bias: there is no weight, as `scale` is False"),
        (lambda: PartialRMSNorm(4, 0.0), "p: 0.0 is not accepted"),
        (lambda: PartialRMSNorm(4, 1.5), "p: 1.5 is not accepted"),
        (lambda: PartialRMSNorm(4, 0), r"a size \(an int, 1 ... 4\)"),
        (lambda: PartialRMSNorm(4, 5), "p: 5 is not accepted"),
        (lambda: PartialRMSNorm(4, True), "p: True is not accepted"),
        (lambda: PartialRMSNorm(4, math.nan), "p: nan is not accepted"),
        (lambda: RMSNorm(4)(torch.ones(2, 5)), r"x: shape \[2, 5\] does not have sizes \[4\] at axes \[-1\]"),
        (lambda: RMSNorm((2, 4))(torch.ones(4)), r"x: shape \[4\] does not have sizes"),
    ],
)
def test_refusals(make, message) -> None:
    with pytest.raises(InputError, match=message):
        make()


DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("round_before_scale", [False, True], ids=["once", "first"])
def test_a_bias(dtype, round_before_scale) -> None:
    x = torch.randn(3, 40, 64).to(dtype)
    norm = randomized(RMSNorm(64, bias=True, round_before_scale=round_before_scale)).to(dtype)
    expected = reference.rms_norm(
        array(x), array(norm.weight), shift=array(norm.bias), round_before_scale=round_before_scale
    )
    assert_near(norm(x), expected)
    shift = torch.randn(3, 1, 64).to(dtype)
    expected = reference.rms_norm(
        array(x), array(norm.weight), shift=array(shift), round_before_scale=round_before_scale
    )
    assert_near(norm(x, shift=shift), expected)


def test_a_bias_starts_at_zero() -> None:
    norm = RMSNorm((3, 4), bias=True)
    assert norm.bias.shape == (3, 4)
    assert not norm.bias.any()
    assert set(norm.state_dict()) == {"weight", "bias"}
    assert "bias=True" in repr(norm)
    plain = RMSNorm((3, 4))
    assert plain.bias is None
    assert "bias" not in repr(plain)
    x = torch.randn(2, 3, 4)
    assert torch.equal(norm(x), plain(x))


def test_a_bias_of_channels_and_of_a_partial_norm() -> None:
    x = torch.randn(2, 6, 3, 4)
    norm = randomized(RMSNorm(6, axes=[-3], bias=True))
    expected = formula(x, norm.weight, axes=(1,)) + norm.bias
    torch.testing.assert_close(norm(x).double(), expected, rtol=1e-6, atol=1e-6)
    partial = randomized(PartialRMSNorm(4, 2, bias=True))
    y = partial(x)
    partial.bias = None
    torch.testing.assert_close(y, partial(x, shift=None) + randomized(PartialRMSNorm(4, 2, bias=True)).bias)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tokens", [1, 40], ids=["by sample", "by token"])
def test_a_modulated_norm_has_the_bits_of_the_model(tokens, dtype) -> None:
    """norm(x) * (1 + s) + t of LTX-Video, where each step is rounded to the dtype of x."""
    x, s, t = (torch.randn(3, size, 64).to(dtype) for size in (40, tokens, tokens))
    expected = decomposed(RMSNorm(64, scale=False))(x) * (1 + s) + t
    norm = RMSNorm(64, scale=False, scale_offset=1.0, round_before_scale=True)
    assert torch.equal(decomposed(norm)(x, s, t), expected)
    assert_near(norm(x, s, t), array(expected))


def test_a_shift_alone() -> None:
    x, shift = torch.randn(3, 5, 16).half(), torch.randn(16).half()
    norm = RMSNorm(16, scale=False)
    assert_near(norm(x, shift=shift), reference.rms_norm(array(x), shift=array(shift)))


def test_the_gradients_of_a_shift() -> None:
    for round_before_scale in (False, True):
        norm = RMSNorm(8, scale_offset=1.0, round_before_scale=round_before_scale).double()
        x, scale, shift = (torch.randn(2, n, 8, dtype=torch.float64, requires_grad=True) for n in (3, 1, 1))
        assert torch.autograd.gradcheck(norm, (x, scale, shift))
        assert torch.autograd.gradgradcheck(norm, (x, scale, shift))
    norm = RMSNorm(8, bias=True).half()
    norm(torch.randn(3, 8).half()).sum().backward()
    assert torch.equal(norm.bias.grad, torch.full((8,), 3.0).half())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_shift_compiles_into_one_graph(dtype) -> None:
    norm = randomized(RMSNorm(16, bias=True)).to(dtype)
    x = torch.randn(3, 16).to(dtype)
    compiled = torch.compile(norm, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), norm(x))
    shift = torch.randn(3, 1).to(dtype)
    torch.testing.assert_close(compiled(x, None, shift), norm(x, None, shift))


def test_a_shift_that_does_not_broadcast() -> None:
    with pytest.raises(InputError, match=r"shift: shape \[4, 8\] does not broadcast to x; x has shape \[3, 8\]"):
        RMSNorm(8)(torch.ones(3, 8), shift=torch.ones(4, 8))
    with pytest.raises(InputError, match=r"shift: shape \[2, 1, 3, 8\] varies along two axes in front"):
        RMSNorm(8)(torch.ones(2, 5, 3, 8), shift=torch.ones(2, 1, 3, 8))
