"""The case table of the backward pass: `check_*` runs one group of cases on a library, on the CPU or on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rms_deploy.ops.element_types import element_dtype

from .cases import EPSILONS, samples, weights

if TYPE_CHECKING:
    from .driver import Kernels


class Expected(NamedTuple):
    """In float64, and the magnitudes that rounding errors are relative to: the sums of the absolute values of what the
    results are sums of.
    """

    grad_x: Any
    grad_x_magnitude: Any
    grad_scale: Any
    grad_scale_magnitude: Any


def expected(
    x: Any,
    scale: Any,
    grad: Any,
    *,
    grad_sum: Any = None,
    partial_size: int | None = None,
    epsilon: float = 1e-6,
    rms_epsilon: float = 0.0,
    rms_min: float = 0.0,
) -> Expected:
    x, scale, grad = (array.astype(np.float64) for array in (x, scale, grad))
    other = 0.0 if grad_sum is None else grad_sum.astype(np.float64)
    epsilon, rms_epsilon, rms_min = (float(np.float32(value)) for value in (epsilon, rms_epsilon, rms_min))
    k = partial_size or x.shape[1]
    with np.errstate(all="ignore"):
        root = np.sqrt((x[:, :k] ** 2).mean(1, keepdims=True) + epsilon)
        rms = np.maximum(root + rms_epsilon, rms_min)
        varies = (root > 0) & (root + rms_epsilon > rms_min) & (np.arange(x.shape[1]) < k)
        u, g = x / rms, grad * scale
        share, absolute = ((values.sum(1, keepdims=True) / (k * root)) for values in (g * x, abs(g * x)))
        grad_scale, magnitude = ((values.sum(0)) for values in (u * grad, abs(u * grad)))
        if scale.size == 1:
            grad_scale, magnitude = grad_scale.sum(keepdims=True), magnitude.sum(keepdims=True)
        return Expected(
            (g - np.where(varies, u * share, 0)) / rms + other,
            (abs(g) + np.where(varies, abs(u) * absolute, 0)) / rms + abs(other),
            grad_scale,
            magnitude,
        )


def assert_near(actual: Any, wanted: Any, magnitude: Any) -> None:
    """|actual - wanted| <= 128 * 2^-24 * magnitude + one rounding to the type; NaN where NaN is wanted.

    128 bounds the float32 roundings on the longest way, 2^-24 each. A sum over a row of 70001 adds 18 elements in each
    of 8 chains, these in 3 steps, and the threads in 5 within a warp and 5 between warps: 31, and 2 for a product. (A
    row that is held in registers has less.) The root halves those of the sum of squares: 1 / r has 20, u 21; the share
    of u has 33 + 20. Their product, the difference and its product with 1 / r: 21 + 53 + 1 + 1 + 21 = 97. A sum over
    rows has at most 60 terms of u, and 32 of the blocks: 113.
    """
    assert actual.dtype.name in ("float32", "float16", "bfloat16")
    kind = np.float32 if actual.dtype == np.float32 else actual.dtype
    eps, least = {"float32": (2.0**-23, 2.0**-149), "float16": (2.0**-10, 2.0**-24), "bfloat16": (2.0**-7, 2.0**-133)}[
        actual.dtype.name
    ]
    most = (
        float(np.finfo(np.float32).max) if kind == np.float32 else {"float16": 65504.0}.get(actual.dtype.name, 3.38e38)
    )
    actual = actual.astype(np.float64)
    number = np.isfinite(wanted) & np.isfinite(magnitude) & (abs(wanted) < most)
    assert (np.isnan(actual) == np.isnan(wanted)).all()
    bound = 128 * 2.0**-24 * magnitude + eps / 2 * abs(wanted) + least
    with np.errstate(all="ignore"):
        excess = np.where(number, abs(actual - wanted) - bound, 0)
    assert excess.max(initial=0) <= 0, float(excess.max())
    infinite = np.isinf(actual) & number
    assert not infinite.any()


def check(kernels: Kernels, x: Any, scale: Any, grad: Any, **options: Any) -> tuple[Any, Any]:
    """One gradient against float64, and the same bits in a second run. Returns grad_x and grad_scale."""
    grad_x, grad_scale = kernels.gradient(x, scale, grad, **options)
    options = {key: value for key, value in options.items() if key not in ("skew", "wants_x", "wants_scale")}
    wanted = expected(x, scale, grad, **options)
    if grad_x is not None:
        assert_near(grad_x, wanted.grad_x, wanted.grad_x_magnitude)
    if grad_scale is not None:
        assert_near(grad_scale, wanted.grad_scale, wanted.grad_scale_magnitude)
    return grad_x, grad_scale


def case(rows: int, n: int, types: tuple[str, str], seed: int = 0) -> tuple[Any, Any, Any]:
    """x, scale and grad_y."""
    return samples((rows, n), types[0], seed), weights(n, types[1]), samples((rows, n), types[0], seed + 1000)


LENGTHS = [*range(1, 10), 16, 17, 24, 32, 33, 64, 111, 129, 256, 520, 1024, 4096, 4097]


def check_lengths(kernels: Kernels, types: tuple[str, str]) -> None:
    """Rows that share a block, that have one, and that are read element by element; more rows than blocks."""
    for number, n in enumerate(LENGTHS):
        rows = 1 + number % 3 if n > 512 else 1 + 7 * (number % 5)
        x, scale, grad = case(rows, n, types, number)
        grad_sum = samples((rows, n), types[0], number + 2000) if number % 2 else None
        check(kernels, x, scale, grad, grad_sum=grad_sum, **EPSILONS[number % 5] if number % 5 < 4 else {})
    for rows, n in ((11, 1024), (70, 72), (300, 5)):
        check(kernels, *case(rows, n, types))


def check_partial(kernels: Kernels, types: tuple[str, str]) -> None:
    for n in (8, 64, 111, 1024):
        for size in sorted({1, 3, n // 16 + 1, n // 2, n - 1, n}):
            check(kernels, *case(9, n, types, size), partial_size=size, epsilon=0.5)


def check_alignments(kernels: Kernels, types: tuple[str, str]) -> None:
    size = element_dtype(types[0]).itemsize
    for skew in range(0, 16, size):
        for n in (64, 111):
            x, scale, grad = case(7, n, types, n)
            check(kernels, x, scale, grad, grad_sum=samples((7, n), types[0], 5), skew=skew)


def check_long_rows(kernels: Kernels, types: tuple[str, str]) -> None:
    """The longest that a block holds, and longer ones."""
    longest = 2048 * 16 // element_dtype(types[0]).itemsize
    for rows, n in ((3, longest), (2, longest + 16), (1, 70001)):
        check(kernels, *case(rows, n, types))


def check_wanted(kernels: Kernels, types: tuple[str, str]) -> None:
    """One of the two results, with its bits; and a scale of one element."""
    for n in (64, 1024, 111):
        x, scale, grad = case(20, n, types)
        grad_x, grad_scale = check(kernels, x, scale, grad)
        only_x, nothing = kernels.gradient(x, scale, grad, wants_scale=False)
        assert nothing is None
        assert only_x.tobytes() == grad_x.tobytes()
        nothing, only_scale = kernels.gradient(x, scale, grad, wants_x=False)
        assert nothing is None
        assert only_scale.tobytes() == grad_scale.tobytes()
        check(kernels, x, scale[:1], grad)


def check_extremes(kernels: Kernels, dtype: str) -> None:
    """Rows that only float64 can hold, beside usual ones; NaN and infinities stay in their rows."""
    half = dtype == "float16"
    for n in (16, 77, 512):
        x, scale, grad = case(9, n, (dtype, "float32"), n)
        for i, factor in enumerate(
            [1, 100, 1e-3, 1e-5] if half else [1, 1e30, 1e19, 1e-15, 1e-22, 1e-30, 1e-37, 3e-39]
        ):
            x[i] = (x[i].astype(np.float64) * factor).astype(x.dtype)
        for options in ({"epsilon": 0.0}, {}, {"epsilon": 0.0, "rms_epsilon": 1e-20}):
            small = (grad.astype(np.float64) * (1 if half else 1e-3)).astype(grad.dtype)
            check(kernels, x, scale, small, **options)
        if not half:  # sums of products that float32 cannot hold, where x, g and the result do not leave it
            for factor, gradient in ((1e12, 1e32), (1e-14, 1e-30)):
                x, scale, grad = case(3, n, (dtype, "float32"), n)
                x, grad = ((a.astype(np.float64) * f).astype(x.dtype) for a, f in ((x, factor), (grad, gradient)))
                check(kernels, x, scale, grad, epsilon=0.0)
    x, scale, grad = case(7, 40, (dtype, "float32"))
    x[0], x[1, 3], x[2, 4], grad[3, 5], grad[4, 6] = 0, np.nan, np.inf, np.nan, np.inf
    usual = [5, 6]
    for options in ({"epsilon": 1e-6}, {"epsilon": 0.0, "rms_min": 0.5}, {"rms_epsilon": 1.0}):
        grad_x, _ = kernels.gradient(x, scale, grad, **options)
        wanted = expected(x[usual], scale, grad[usual], **options)
        assert_near(grad_x[usual], wanted.grad_x, wanted.grad_x_magnitude)
        assert np.isnan(grad_x[1:5].astype(np.float32)).any(axis=1).all()
        assert np.isfinite(grad_x[0].astype(np.float32)).all()


def check_empty(kernels: Kernels) -> None:
    """No rows: the gradient of scale is zero."""
    nothing = np.zeros((0, 40), np.float32)
    grad_x, grad_scale = kernels.gradient(nothing, np.ones(40, np.float32), nothing)
    assert grad_x.size == 0
    assert (grad_scale == 0).all()


BY_TYPES = [check_lengths, check_partial, check_alignments, check_long_rows, check_wanted]
