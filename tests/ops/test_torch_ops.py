"""The torch ops: forward against the float64 reference, gradients against autograd, and what the paper proves."""

from __future__ import annotations

import itertools
import math

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from rms_deploy.errors import InputError
from rms_deploy.ops import reference
from rms_deploy.ops.torch_ops import _forward, add_rms_norm, partial_rms_norm, rms_norm
from rms_deploy.ops.ulp import ulp_distance

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# axes, shape of x, shape of scale
BLOCKS = [
    ([-1], (3, 5, 7), (7,)),
    ([-1], (1, 1), (1,)),
    ([-1], (4, 111), (111,)),
    ([-1], (2, 16385), ()),
    ([-1], (7,), (7,)),
    ([1], (2, 6, 3, 2), (6, 1, 1)),
    ([-2, -1], (3, 4, 5), (4, 5)),
    ([0, 1, 2], (2, 3, 4), (2, 3, 4)),
    ([-1], (0, 8), (8,)),
    ([-1], (3, 0), (0,)),
    ([-1], (2, 5, 3, 8), (3, 8)),
    ([-1], (2, 5, 8), (2, 1, 8)),
    ([-1], (2, 5, 8), (5, 1)),
    ([1], (2, 6, 3, 2), (2, 6, 1, 1)),
]
# epsilon, rms_epsilon, rms_min
EPSILONS = [(1e-5, 0.0, 0.0), (0.0, 0.0, 0.0), (1e-3, 0.1, 0.0), (0.0, 0.0, 0.9), (0.02, 0.01, 0.5)]


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def as_numpy(x: Tensor) -> np.ndarray:
    if x.dtype == torch.bfloat16:
        return x.detach().contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return x.detach().numpy()


def assert_near_reference(actual: Tensor, expected: np.ndarray, roundings: int) -> None:
    """Equal but for the float32 statistics.

    float32: the mean, root, quotient and product add their roundings (half an ulp each, the sum of squares more, but
    averaged by the root) to the reference's single one: 4 ulp. Half types: the same error, 2^-20 at most, moves a
    result only if it crosses a rounding boundary, by one ulp for each rounding made, in 2^-8 of all elements at most.
    """
    actual = as_numpy(actual)
    assert actual.dtype == expected.dtype
    distance = ulp_distance(np.ascontiguousarray(actual), expected)
    assert distance.max(initial=0) <= (4 if expected.dtype == np.float32 else roundings)
    if expected.dtype != np.float32:
        assert np.count_nonzero(distance) <= max(2, distance.size / 256)


@pytest.mark.parametrize("round_before_scale", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("axes", "shape", "scale_shape"), BLOCKS)
def test_forward_equals_reference(axes, shape, scale_shape, dtype, round_before_scale) -> None:
    x, scale = rand(*shape, dtype=dtype), rand(*scale_shape, seed=1, dtype=dtype)
    for epsilon, rms_epsilon, rms_min in EPSILONS:
        y = rms_norm(x, scale, axes, epsilon, rms_epsilon, rms_min, round_before_scale)
        expected = reference.rms_norm(
            as_numpy(x),
            as_numpy(scale),
            axes=axes,
            epsilon=epsilon,
            rms_epsilon=rms_epsilon,
            rms_min=rms_min,
            round_before_scale=round_before_scale,
        )
        assert_near_reference(y, expected, roundings=2 if round_before_scale else 1)


@pytest.mark.parametrize("round_before_scale", [False, True])
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_float32_scale_with_half_x(dtype, round_before_scale) -> None:
    x, scale = rand(16, 64, dtype=dtype), rand(64, seed=1, dtype=torch.float32)
    y = rms_norm(x, scale, [-1], 1e-6, 0.0, 0.0, round_before_scale)
    expected = reference.rms_norm(as_numpy(x), as_numpy(scale), round_before_scale=round_before_scale)
    assert_near_reference(y, expected, roundings=2 if round_before_scale else 1)


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_the_two_rounding_orders_differ(dtype) -> None:
    x, scale = rand(64, 64, dtype=dtype), rand(64, seed=1, dtype=dtype)
    once, before = (rms_norm(x, scale, [-1], 1e-6, 0.0, 0.0, order) for order in (False, True))
    assert 0.1 < float((once != before).float().mean()) < 0.5


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("axes", "shape", "scale_shape"), [BLOCKS[0], BLOCKS[2], *BLOCKS[5:8]])
def test_partial_equals_reference(axes, shape, scale_shape, dtype) -> None:
    x, scale = rand(*shape, dtype=dtype), rand(*scale_shape, seed=1, dtype=dtype)
    n = math.prod(shape[axis] for axis in axes)
    for k, order in itertools.product({1, n // 2, n - 1, n}, (False, True)):
        y = partial_rms_norm(x, scale, k, axes, 1e-5, 0.0, 0.0, order)
        expected = reference.rms_norm(
            as_numpy(x), as_numpy(scale), axes=axes, epsilon=1e-5, partial_size=k, round_before_scale=order
        )
        assert_near_reference(y, expected, roundings=2 if order else 1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_add_equals_reference(dtype) -> None:
    x, residual, scale = (rand(*shape, seed=i, dtype=dtype) for i, shape in enumerate([(9, 33), (9, 33), (33,)]))
    for order in (False, True):
        y, total = add_rms_norm(x, residual, scale, [-1], 1e-6, 0.0, 0.0, order)
        expected_y, expected_total = reference.add_rms_norm(
            as_numpy(x), as_numpy(residual), as_numpy(scale), round_before_scale=order
        )
        np.testing.assert_array_equal(as_numpy(total), expected_total)
        assert_near_reference(y, expected_y, roundings=2 if order else 1)


@pytest.mark.parametrize("norm", [rms_norm, _forward], ids=["compiled", "operators"])
@pytest.mark.parametrize("magnitude", [1.0, 100.0, 1e-3, 1e-6])
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_a_rounded_reciprocal_is_what_models_compute(dtype, magnitude, norm) -> None:
    """Bit for bit, where all that float32 may make of 1 / rms, within 2^-20 of it, is one number of the half type."""
    x, scale = (magnitude * rand(200, 96)).to(dtype), rand(96, seed=1, dtype=dtype)
    mean = x.float().pow(2).mean(-1, keepdim=True)
    expected = x * torch.rsqrt(mean + 1e-6).to(dtype) * scale
    rms = (x.double().pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
    decided = (((1 - 2**-20) / rms).to(dtype) == ((1 + 2**-20) / rms).to(dtype))[:, 0]
    y = norm(x, scale, [-1], 1e-6, 0.0, 0.0, True, True)
    assert decided.float().mean() > 0.9
    assert torch.equal(y[decided], expected[decided])
    if magnitude > 1e-6:  # else 1 / rms is 1000 in all rows, which rounds to itself
        assert (y != norm(x, scale, [-1], 1e-6, 0.0, 0.0, True, False)).float().mean() > 0.1


def test_a_reciprocal_is_rounded_in_half_types_only() -> None:
    x, scale = rand(5, 96, dtype=torch.float32), rand(96, seed=1, dtype=torch.float32)
    for norm in (rms_norm, _forward):
        both = [norm(x, scale, [-1], 1e-6, 0.0, 0.0, True, reciprocal) for reciprocal in (False, True)]
        assert torch.equal(*both)


def test_finite_input_does_not_overflow() -> None:
    x = torch.tensor([[1e38, -2e38, 5e37], [1.0, 2.0, 3.0], [65504.0, 1e-30, 0.0]])
    y = rms_norm(x, torch.ones(()), [-1], 1e-6, 0.0, 0.0, False)
    assert_near_reference(y, reference.rms_norm(as_numpy(x)), roundings=1)


@pytest.mark.parametrize("magnitude", [1e-13, 1e-17, 1e-25, 1e-37, 1e-41, 2.0**-149])
@pytest.mark.parametrize(
    "epsilons",
    [(0.0, 0.0, 0.0), (1e-50, 0.0, 0.0), (1e-34, 0.0, 0.0), (1e-6, 0.0, 0.0), (0.0, 1e-25, 0.0), (0.0, 0.0, 1e-25)],
)
def test_small_input_does_not_underflow(magnitude, epsilons) -> None:
    """Down to the smallest number of float32, whose square is 0 there."""
    x = (rand(8, 33) * magnitude).float()
    x[0] = magnitude
    for k in (33, 5):
        kept = x[x[:, :k].any(1)]  # a row of zeros has no result, but with an epsilon
        y = partial_rms_norm(kept, torch.ones(()), k, [-1], *epsilons, False)
        options = dict(zip(("epsilon", "rms_epsilon", "rms_min"), epsilons, strict=True))
        assert_near_reference(y, reference.rms_norm(as_numpy(kept), partial_size=k, **options), roundings=1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_of_the_smallest_number_are_ones(dtype) -> None:
    tiny = torch.tensor(torch.finfo(dtype).smallest_normal / 2, dtype=dtype)
    assert tiny > 0
    for value in (tiny, torch.full((), 1e-25).to(dtype)):
        if value > 0:
            assert torch.equal(norm0(value.repeat(3, 16), torch.ones(())), torch.ones(3, 16, dtype=dtype))


def test_zeros_nan_and_infinity_are_those_of_the_formula() -> None:
    x = torch.tensor([[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0], [3.0, 4.0]])
    for epsilon in (1e-6, 0.0):
        y = rms_norm(x, torch.ones(()), [-1], epsilon, 0.0, 0.0, False)
        np.testing.assert_allclose(y.numpy(), reference.rms_norm(x.numpy(), epsilon=epsilon), rtol=1e-6)


def test_strided_input() -> None:
    x = rand(6, 8, dtype=torch.float32).t()[::2]
    y = rms_norm(x, torch.ones(()), [-1], 1e-6, 0.0, 0.0, False)
    assert y.is_contiguous()
    assert_near_reference(y, reference.rms_norm(as_numpy(x)), roundings=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: rms_norm(x, torch.ones(()), [2], 1e-6, 0.0, 0.0, False), "axes: 2 is out of range"),
        (lambda x: rms_norm(x[None], torch.ones(()), [0, 2], 1e-6, 0.0, 0.0, False), "not a contiguous block"),
        (lambda x: rms_norm(x, torch.ones(2, 3, 4), [-1], 1e-6, 0.0, 0.0, False), "does not broadcast to that of x"),
        (lambda x: rms_norm(x, torch.ones(2, 4), [-1], 1e-6, 0.0, 0.0, False), r"scale: shape \[2, 4\] does not"),
        (lambda x: partial_rms_norm(x, torch.ones(()), 0, [-1], 1e-6, 0.0, 0.0, False), "partial_size: 0"),
        (lambda x: partial_rms_norm(x, torch.ones(()), 5, [-1], 1e-6, 0.0, 0.0, False), "partial_size: 5"),
        (lambda x: add_rms_norm(x, x[0], torch.ones(()), [-1], 1e-6, 0.0, 0.0, False), "does not match x"),
        (lambda x: add_rms_norm(x, x.half(), torch.ones(()), [-1], 1e-6, 0.0, 0.0, False), "does not match x"),
    ],
)
def test_refusals(call, message) -> None:
    with pytest.raises(InputError, match=message):
        call(torch.ones(3, 4))


# Gradients


def plain(x, scale, axes, epsilon, rms_epsilon, rms_min, k=None):
    """The formula in torch's own operations, whose gradient autograd knows."""
    rank = x.ndim
    first, last = min(axis % rank for axis in axes), max(axis % rank for axis in axes)
    flat = x.flatten(first, last).narrow(first, 0, k or math.prod(x.shape[first : last + 1]))
    rms = torch.sqrt(flat.square().mean(first, keepdim=True) + epsilon) + rms_epsilon
    rms = torch.clamp(rms, min=rms_min) if rms_min else rms
    return x / rms.reshape([1 if first <= axis <= last else size for axis, size in enumerate(x.shape)]) * scale


GRADIENT_CASES = [
    ([-1], (3, 5), (5,)),
    ([-1], (3, 5), ()),
    ([1], (2, 4, 3), (4, 1)),
    ([-2, -1], (2, 3, 4), (3, 4)),
    ([-2, -1], (2, 3, 4), (4,)),
    ([-1], (2, 3, 4), (3, 4)),
    ([-1], (2, 3, 4), (2, 1, 4)),
    ([-1], (2, 3, 4), (3, 1)),
]


@pytest.mark.parametrize("epsilons", EPSILONS)
@pytest.mark.parametrize(("axes", "shape", "scale_shape"), GRADIENT_CASES)
def test_gradients(axes, shape, scale_shape, epsilons) -> None:
    x, scale = rand(*shape).requires_grad_(), rand(*scale_shape, seed=1).requires_grad_()
    for order in (False, True):
        assert gradcheck(lambda x, s, order=order: rms_norm(x, s, axes, *epsilons, order), (x, scale))
    grad = rand(*shape, seed=2)
    ours = torch.autograd.grad(rms_norm(x, scale, axes, *epsilons, False), (x, scale), grad)
    expected = torch.autograd.grad(plain(x, scale, axes, *epsilons), (x, scale), grad)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("epsilons", EPSILONS)
@pytest.mark.parametrize(("axes", "shape", "scale_shape"), GRADIENT_CASES)
def test_partial_gradients(axes, shape, scale_shape, epsilons) -> None:
    x, scale = rand(*shape).requires_grad_(), rand(*scale_shape, seed=1).requires_grad_()
    grad = rand(*shape, seed=2)
    for k in (1, 2, 3):
        assert gradcheck(lambda x, s, k=k: partial_rms_norm(x, s, k, axes, *epsilons, False), (x, scale))
        ours = torch.autograd.grad(partial_rms_norm(x, scale, k, axes, *epsilons, False), (x, scale), grad)
        expected = torch.autograd.grad(plain(x, scale, axes, *epsilons, k), (x, scale), grad)
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("epsilons", EPSILONS)
def test_add_gradients(epsilons) -> None:
    inputs = tuple(rand(*shape, seed=i).requires_grad_() for i, shape in enumerate([(3, 5), (3, 5), (5,)]))
    assert gradcheck(lambda x, r, s: add_rms_norm(x, r, s, [-1], *epsilons, False), inputs)
    assert gradcheck(lambda x, r, s: add_rms_norm(x, r, s, [-1], *epsilons, False)[0], inputs)
    assert gradcheck(lambda x, r, s: add_rms_norm(x, r, s, [-1], *epsilons, False)[1], inputs)


def test_a_clamped_root_is_constant() -> None:
    x = (rand(4, 8) * 0.01).requires_grad_()
    grad = rand(4, 8, seed=1)
    (ours,) = torch.autograd.grad(rms_norm(x, torch.ones(()), [-1], 1e-12, 0.0, 2.0, False), x, grad)
    torch.testing.assert_close(ours, grad / 2.0)


def test_zero_row_has_a_finite_gradient() -> None:
    x = torch.zeros(1, 4, requires_grad=True)
    (ours,) = torch.autograd.grad(rms_norm(x, torch.ones(()), [-1], 0.0, 0.5, 0.0, False).sum(), x)
    torch.testing.assert_close(ours, torch.full((1, 4), 2.0))


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_half_precision_gradients_are_float32_ones_rounded(dtype) -> None:
    x, scale, grad = (rand(*shape, seed=i, dtype=dtype) for i, shape in enumerate([(32, 48), (48,), (32, 48)]))
    wide = [tensor.double().requires_grad_() for tensor in (x, scale)]
    expected = torch.autograd.grad(plain(*wide, [-1], 1e-6, 0.0, 0.0), wide, grad.double())
    narrow = [x.requires_grad_(), scale.requires_grad_()]
    ours = torch.autograd.grad(rms_norm(*narrow, [-1], 1e-6, 0.0, 0.0, True), narrow, grad)
    for actual, exact in zip(ours, expected, strict=True):
        assert actual.dtype == dtype
        # One rounding to dtype (half an eps), and float32 sums over at most 48 terms, far below it.
        scale_of_values = exact.abs().max().item()
        torch.testing.assert_close(actual.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-6 * scale_of_values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck(dtype) -> None:
    x, scale = rand(3, 8, dtype=dtype).requires_grad_(), rand(8, seed=1, dtype=dtype).requires_grad_()
    options = ([-1], 1e-6, 0.0, 0.0, True)
    torch.library.opcheck(rms_norm, (x, scale, *options))
    torch.library.opcheck(rms_norm, (x, scale, *options, True))
    torch.library.opcheck(rms_norm, (x.detach().t().contiguous().t(), scale.detach(), *options))
    torch.library.opcheck(partial_rms_norm, (x, scale, 3, *options))
    torch.library.opcheck(add_rms_norm, (x, x.detach().clone().requires_grad_(), scale, *options))


# What the paper proves of RMSNorm, with epsilon 0: section 4.1 (invariance) and 4.2 (gradients).


FACTORS = [1e-300, 1e-160, 1e-25, 1e-3, 0.5, 7.0, 1e4, 1e25, 1e160]
"""The squares of the first leave float32 and float64."""


def norm0(x: Tensor, scale: Tensor) -> Tensor:
    return rms_norm(x, scale, [-1], 0.0, 0.0, 0.0, False)


@pytest.mark.parametrize("a", FACTORS)
def test_rescaling_invariance(a) -> None:
    x, scale = rand(5, 16), rand(16, seed=1)
    torch.testing.assert_close(norm0(a * x, scale), norm0(x, scale))
    torch.testing.assert_close(norm0(-a * x, scale), -norm0(x, scale))
    partial = [partial_rms_norm(v, scale, 4, [-1], 0.0, 0.0, 0.0, False) for v in (a * x, x)]
    torch.testing.assert_close(*partial)


@pytest.mark.parametrize("a", FACTORS)
def test_input_gradient_is_inverse_to_the_input_and_orthogonal_to_it(a) -> None:
    x, scale, grad = rand(5, 16).requires_grad_(), rand(16, seed=1), rand(5, 16, seed=2)
    scaled = (a * x.detach()).requires_grad_()
    (dx,) = torch.autograd.grad(norm0(x, scale), x, grad)
    (dscaled,) = torch.autograd.grad(norm0(scaled, scale), scaled, grad)
    torch.testing.assert_close(dscaled, dx / a)
    torch.testing.assert_close((dx * x).sum(-1), torch.zeros(5, dtype=torch.float64))


@pytest.mark.parametrize("a", FACTORS)
def test_weight_matrix_and_scale_gradients(a) -> None:
    """y = g * (W x) / RMS(W x): dW is invariant to the scale of x and inverse to that of W; dg is invariant to both."""

    def gradients(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        leaves = [weight.detach().requires_grad_(), rand(12, seed=3).requires_grad_()]
        return torch.autograd.grad(norm0(x @ leaves[0].t(), leaves[1]), leaves, rand(5, 12, seed=2))

    x, weight = rand(5, 16), rand(12, 16, seed=1)
    dweight, dscale = gradients(x, weight)
    torch.testing.assert_close(gradients(a * x, weight), (dweight, dscale))
    torch.testing.assert_close(gradients(x, a * weight), (dweight / a, dscale))
