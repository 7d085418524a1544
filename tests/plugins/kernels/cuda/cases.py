"""The case table of the CUDA kernels: `check_*` runs one group of cases on a library, on the CPU or on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rms_deploy.ops.element_types import element_dtype
from rms_deploy.ops.reference import add_rms_norm, gated_rms_norm, rms_norm
from rms_deploy.ops.ulp import ulp_distance

if TYPE_CHECKING:  # a program that has this folder on its path imports the module as well
    from .driver import Kernels

TYPE_PAIRS = [("float32", "float32")] + [(t, s) for t in ("float16", "bfloat16") for s in ("float32", t)]
LENGTHS = [*range(1, 35), 63, 64, 65, 111, 127, 128, 129, 255, 256, 257, 512, 896, 1024, 2048, 4096, 4097, 16384, 16385]
EPSILONS: list[dict[str, float]] = [
    {"epsilon": 0.5},
    {"epsilon": 0.0, "rms_epsilon": 0.25},
    {"epsilon": 0.0, "rms_min": 0.5},
    {"epsilon": 0.125, "rms_epsilon": 0.25, "rms_min": 1.5},
]


def samples(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Any:
    """Normal numbers with one in 64 a hundred times as large, as transformer activations have."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal(shape)
    values[generator.random(shape) < 1 / 64] *= 100
    return values.astype(element_dtype(dtype))


def weights(n: int, dtype: str) -> Any:
    return (1 + 0.5 * np.random.default_rng(1).standard_normal(n)).astype(element_dtype(dtype))


def assert_close(actual: Any, expected: Any, *, round_before_scale: bool = False, is_gated: bool = False) -> None:
    """`actual` is `expected`, up to the roundings that the contract leaves open.

    float32: 4 ulp. The mean's error (a sum of some hundred terms in float32, of which the root halves the error), the
    root, its reciprocal, the quotient and the product are rounded, to half an ulp each, which for a result with a
    mantissa near 2 is up to a whole one; errors of all five that point the same way by their full size do not occur.
    16 bits: these errors of some 2^-24 move a result over a rounding boundary about once in 2^11 elements, by 1 ulp;
    where the quotient is rounded before it is scaled, the product may then be 2 ulp away.

    With a gate, float32: 10 ulp more. In 2^-24, silu is off by 9 at most: 4 of the power of two in exp (2 ulp), 1 of
    its argument, 1 of 1 + exp, 2 of the reciprocal (1 ulp), 1 of the product with z; one more is that with silu. 16
    bits: what is 2 ulp away before the last product may be 4 ulp of a result whose mantissa is near 2. Errors of
    14 * 2^-24 and up to two roundings more move a result about once in 2^8 elements of float16.
    """
    distance = ulp_distance(actual, expected)
    if actual.dtype == np.float32:
        assert distance.max(initial=0) <= (14 if is_gated else 4)
        return
    assert distance.max(initial=0) <= ((4 if is_gated else 2) if round_before_scale else 1)
    assert np.count_nonzero(distance) <= (max(4, distance.size / 100) if is_gated else max(2, distance.size / 300))


def is_decided(
    x: Any,
    axis: int = -1,
    *,
    epsilon: float = 1e-6,
    rms_epsilon: float = 0.0,
    rms_min: float = 0.0,
    partial_size: int | None = None,
) -> Any:
    """Where all that float32 may make of 1 / rms is one number once it is rounded to the type of x.

    A float32 statistic is within 2^-20 of the exact one: 16 units in the last place.
    """
    first = np.moveaxis(x.astype(np.float64), axis, 0)[:partial_size]
    with np.errstate(all="ignore"):
        rms = np.maximum(np.sqrt((first**2).mean(0) + epsilon) + rms_epsilon, rms_min)
        low, high = ((sign / rms).astype(x.dtype) for sign in (1 - 2.0**-20, 1 + 2.0**-20))
    return np.broadcast_to(np.expand_dims(low.view("i2") == high.view("i2"), axis), x.shape)


def assert_same(actual: Any, expected: Any, decided: Any) -> None:
    """Equal bits wherever 1 / rms is decided, which it mostly is; any NaN is one."""
    number = ~np.isnan(expected.astype(np.float32))
    assert not decided.size or decided.mean() > 0.5
    assert (np.isnan(actual.astype(np.float32)) == ~number)[decided].all()
    assert (actual.view("i2") == expected.view("i2"))[decided & number].all()


def check(
    kernels: Kernels,
    x: Any,
    scale: Any,
    *,
    axis: int = -1,
    residual: Any = None,
    z: Any = None,
    gates_first: bool = False,
    is_sigmoid: bool = False,
    **options: Any,
) -> Any:
    """One norm against float64. Returns y."""
    gate = {"z": z, "gates_first": gates_first, "is_sigmoid": is_sigmoid}
    y, total = kernels.norm(x, scale, axis=axis, residual=residual, **gate, **options)
    exact = {k: float(np.float32(v)) for k, v in options.items() if k in ("epsilon", "rms_epsilon", "rms_min")}
    order = options.get("round_before_scale", False)
    scale = _beside(x, axis % x.ndim, scale, options.get("scale_repeat", 1))
    is_reciprocal = options.get("round_reciprocal", False)
    partial = {"partial_size": options.get("partial_size"), **exact}
    options = {"axes": [axis], "round_before_scale": order, "round_reciprocal": is_reciprocal, **partial}
    if z is not None:
        name = "SigmoidGate" if is_sigmoid else "SiluGate"
        expected = gated_rms_norm(x, z, scale, gate=name, before=gates_first, **options)
    elif residual is None:
        expected = rms_norm(x, scale, **options)
    else:
        expected, expected_sum = add_rms_norm(x, residual, scale, **options)
        if total is not None:
            assert total.tobytes() == expected_sum.tobytes()
    if is_reciprocal and x.itemsize == 2:
        normalised = x if residual is None else expected_sum
        assert_same(y, expected, is_decided(normalised, axis, **partial))
    else:
        assert_close(y, expected, round_before_scale=order, is_gated=z is not None)
    return y


def _beside(x: Any, axis: int, scale: Any, repeat: int) -> Any:
    """The scale in a shape that broadcasts to x; of several rows, each outer index gets its own."""
    if scale.ndim > 1:
        outer = int(np.prod(x.shape[:axis]))
        scale = scale[np.arange(outer) // repeat % len(scale)].reshape(*x.shape[:axis], -1)
    return scale.reshape(*scale.shape, *[1] * (x.ndim - 1 - axis)) if scale.size > 1 else scale.reshape(())


def check_lengths(kernels: Kernels, types: tuple[str, str]) -> None:
    """Every length, kernel and residual, alone or in rows that share a block; with each rounding order and epsilon."""
    number = 0
    for n in LENGTHS:
        for tactic in [0, *kernels.tactics(types[0], 3, n)]:
            for add in (False, True):
                number += 1
                rows = 1 + number % 5 if n > 512 else 1 + number % 37
                x, r = (samples((rows, n), types[0], seed) for seed in (number, number + 1))
                scale = weights(n if number % 4 else 1, types[1])
                check(
                    kernels, x, scale, residual=r if add else None, tactic=tactic, round_before_scale=number % 3 == 0,
                    **EPSILONS[number % 7] if number % 7 < 4 else {},
                )  # fmt: skip


def check_alignments(kernels: Kernels, types: tuple[str, str]) -> None:
    """Every misalignment, the same for all tensors or not."""
    size = element_dtype(types[0]).itemsize
    for skew in range(0, 16, size):
        for n in (5, 64, 111, 1024):
            x, r, scale = samples((7, n), types[0], n), samples((7, n), types[0], n + 1), weights(n, types[1])
            check(kernels, x, scale, skew=skew)
            check(kernels, x, scale, residual=r, skew=skew)
            check(kernels, x, scale, skew=skew, y_skew=(skew + size) % 16)


def check_partial(kernels: Kernels, types: tuple[str, str]) -> None:
    """Statistics of the first elements, whatever follows them."""
    for n in (8, 64, 111, 1024):
        for size in sorted({1, 3, n // 16 + 1, n // 2, n - 1, n}):
            for axis in (0, 1):
                x, scale = samples((9, n), types[0], size), weights(n, types[1])
                if axis == 0:
                    x = np.ascontiguousarray(x.T)
                check(kernels, x, scale, axis=axis, partial_size=size)
    x, scale = samples((4, 64), types[0]), weights(64, types[1])
    clean = check(kernels, x, scale, partial_size=23)
    x[:, 23:] = np.nan
    y, _ = kernels.norm(x, scale, partial_size=23)
    assert y[:, :23].tobytes() == clean[:, :23].tobytes()
    assert np.isnan(y[:, 23:].astype(np.float32)).all()


def check_columns(kernels: Kernels, types: tuple[str, str]) -> None:
    """inner > 1: widths around the vectors, columns that fit into registers and columns that do not."""
    number = 0
    for inner in (2, 3, 7, 8, 9, 16, 49, 64, 128, 136, 300):
        for n in (1, 2, 19, 37, 300):
            number += 1
            x, r = (samples((2, n, inner), types[0], seed) for seed in (number, number + 1))
            check(
                kernels, x, weights(n if number % 4 else 1, types[1]), axis=1, residual=r if number % 2 else None,
                round_before_scale=number % 3 == 0, skew=0 if number % 5 else x.itemsize,
            )  # fmt: skip


def check_in_place(kernels: Kernels, types: tuple[str, str]) -> None:
    """y, and the sum, in the memory of x or the residual: the kernels for short, long and misaligned rows, columns."""
    for shape, axis in (((5, 64), 1), ((2, 4096), 1), ((3, 111), 1), ((1, 70000), 1), ((2, 40, 24), 1), ((300, 5), 0)):
        x, r, scale = samples(shape, types[0]), samples(shape, types[0], 1), weights(shape[axis], types[1])
        for tactic in (0, 16):
            check(kernels, x, scale, axis=axis, y_is="x", tactic=tactic)
            check(kernels, x, scale, axis=axis, residual=r, y_is="x", tactic=tactic)
            check(kernels, x, scale, axis=axis, residual=r, y_is="residual", sum_is="x", tactic=tactic)
            check(kernels, x, scale, axis=axis, residual=r, sum_is="residual", wants_sum=False, tactic=tactic)


def check_long_rows(kernels: Kernels, types: tuple[str, str]) -> None:
    """Rows that no block holds: by one block each, and by several."""
    for rows, n in ((1, 65536), (7, 33000), (1, 262147)):
        x, r, scale = samples((rows, n), types[0]), samples((rows, n), types[0], 1), weights(n, types[1])
        check(kernels, x, scale)
        check(kernels, x, scale, residual=r, wants_sum=n % 2 == 0)


def check_reciprocal(kernels: Kernels, types: tuple[str, str]) -> None:
    """1 / rms rounded to T, bit for bit: each kernel, residual and epsilon, partial statistics, extreme rows.

    In float32 it changes nothing.
    """
    order = {"round_before_scale": True, "round_reciprocal": True}
    for n in (1, 7, 64, 111, 1024, 4097, 33000):
        x, r, scale = samples((3, n), types[0], n), samples((3, n), types[0], n + 1), weights(n, types[1])
        for tactic in [0, *kernels.tactics(types[0], 3, n)]:
            check(kernels, x, scale, tactic=tactic, **order)
            check(kernels, x, scale[:1], residual=r, tactic=tactic, **order)
        for epsilons in EPSILONS:
            check(kernels, x, scale, partial_size=1 + n // 3, **order, **epsilons)
    for inner, n in ((1, 40), (3, 19), (136, 300)):
        x, r = (samples((2, n, inner), types[0], seed) for seed in (0, 1))
        check(kernels, x, weights(n, types[1]), axis=1, residual=r, **order)
    huge = [1, 6e4, 300, 1e-3, 1e-7, 2] if types[0] == "float16" else [1, 3e38, 1e30, 1e19, 1e-15, 1e-22, 1e-30, 2]
    for n in (16, 77):
        x, scale = rows_of(huge, n, types[0]), weights(n, types[1])
        for epsilon in (0.0, 1e-6):
            check(kernels, x, scale, epsilon=epsilon, **order)
            check(kernels, np.ascontiguousarray(x.T), scale, axis=0, epsilon=epsilon, **order)
    if types[0] == "float32":
        y, _ = kernels.norm(x, scale)
        assert kernels.norm(x, scale, **order)[0].tobytes() == y.tobytes()


def check_scale_rows(kernels: Kernels, types: tuple[str, str]) -> None:
    """A scale of several rows, each for one or two rows of x in turns: each kernel, residual, misalignment, columns."""
    for n in (1, 5, 64, 111, 1024, 4097):
        x, r, scale = samples((12, n), types[0]), samples((12, n), types[0], 1), weights_of_rows(3, n, types[1])
        for tactic in [0, *kernels.tactics(types[0], 12, n)]:
            check(kernels, x, scale, tactic=tactic)
            check(kernels, x, scale, residual=r, tactic=tactic, scale_repeat=2, round_before_scale=True)
            check(kernels, x, scale[:, :1].copy(), tactic=tactic, scale_repeat=2)
        check(kernels, x, scale, skew=x.itemsize)
    check(kernels, samples((4, 33000), types[0]), weights_of_rows(2, 33000, types[1]))
    for inner, n in ((3, 19), (9, 40), (136, 300)):
        x, scale = samples((12, n, inner), types[0]), weights_of_rows(2, n, types[1])
        check(kernels, x, scale, axis=1)
        check(kernels, x, scale[:, :1].copy(), axis=1, scale_repeat=2)
    huge = rows_of([1, 6e4 if types[0] == "float16" else 3e38, 1e-7, 2], 64, types[0])
    check(kernels, huge, weights_of_rows(2, 64, types[1]), epsilon=0.0)


def gates(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Any:
    """Small and large ones, of either sign; silu of the least, -12, is a normal number in each type."""
    return np.random.default_rng(seed).uniform(-12, 12, shape).astype(element_dtype(dtype))


def check_gates(kernels: Kernels, types: tuple[str, str]) -> None:
    """Each gate, in each order of rounding: lengths, alignments, in place, epsilons, scales.

    The longest rows have more than 64 KB.
    """
    number = 0
    for n in (1, 2, 5, 64, 111, 1024, 1025, 8200, 33000):
        for gate in ({}, {"gates_first": True}, {"is_sigmoid": True}):
            for rounds in (False, True):
                number += 1
                rows = 1 + number % 3 if n > 512 else 1 + number % 37
                x, z = samples((rows, n), types[0], number), gates((rows, n), types[0], number)
                options = {"z": z, "round_before_scale": rounds, **gate}
                skew = number % 3 * x.itemsize
                scale = weights(n if number % 5 else 1, types[1])
                check(kernels, x, scale, skew=skew, **options, **EPSILONS[number % 7] if number % 7 < 4 else {})
                check(kernels, x, scale, skew=skew, y_skew=(skew + x.itemsize) % 16, **options)
                check(kernels, x, scale, skew=skew, y_is="xz"[number % 2], **options)
                if n <= 1025:
                    x, z = samples((12, n), types[0], number), gates((12, n), types[0], number)
                    options |= {"z": z, "scale_repeat": 1 + number % 2}
                    check(kernels, x, weights_of_rows(3, n, types[1]), **options)


def check_extreme_gates(kernels: Kernels, dtype: str) -> None:
    """Squares that overflow float32 or are lost to underflow, gates that are 0 or z itself, infinities and NaN."""
    huge = [1, 6e4, 300, 1e-3, 2] if dtype == "float16" else [1, 2e37, 1e30, 1e19, 1e-15, 1e-22, 1e-30, 2]
    for n in (5, 16, 77, 4096):
        x, scale = rows_of(huge, n, dtype), weights(n, "float32")
        for gates_first in (False, True):
            for epsilon in (0.0, 1e-6):
                check(kernels, x, scale, z=gates(x.shape, dtype), gates_first=gates_first, epsilon=epsilon)
    x, z = samples((8, 40), dtype), gates((8, 40), dtype)
    z[0], z[1], z[2, 3], z[3, 4], z[4, 5] = 0, -0.0, np.nan, np.inf, -np.inf
    z[5, :6] = [100, 1000, 88, 89, 87.5, 30000]
    x[6, 0], x[7, 1] = np.nan, np.inf
    scale = weights(40, "float32")
    check(kernels, x, scale, z=z, is_sigmoid=True)
    for gates_first in (False, True):
        check(kernels, x, scale, z=z, gates_first=gates_first)
        # 1 / (1 + exp(-z)) is subnormal from z = -87.3 on: the gate is then 0, and less than 2^-119 in truth.
        least = np.broadcast_to(np.array([-30000, -1000, -100, -89, -88.5, 1, 2, 3], z.dtype), (3, 8)).copy()
        y, _ = kernels.norm(np.ones_like(least), scale[:1], z=least, gates_first=gates_first)
        assert (abs(y[:, :5].astype(np.float64)) < 2.0**-118).all()
        assert np.isfinite(y.astype(np.float32)).all()
        assert (abs(y[:, 5:]) > 0.5).all()


def weights_of_rows(rows: int, n: int, dtype: str) -> Any:
    """No row has numbers of another."""
    return np.stack([weights(n, "float32") + row for row in range(rows)]).astype(element_dtype(dtype))


def rows_of(magnitudes: list[float], n: int, dtype: str) -> Any:
    signs = np.random.default_rng(3).uniform(-1, 1, (len(magnitudes), n))
    with np.errstate(over="ignore"):
        return (signs * np.array(magnitudes)[:, None]).astype(element_dtype(dtype))


def check_extremes(kernels: Kernels, dtype: str) -> None:
    """Sums of squares that overflow float32 or underflow to nothing, zeros, infinities and NaN, beside usual rows."""
    huge = [1, 6e4, 300, 1e-3, 1e-7, 2] if dtype == "float16" else [1, 3e38, 1e30, 1e19, 1e-15, 1e-22, 1e-37, 2e-40, 2]
    for n in (5, 16, 77, 4096):
        x, scale = rows_of(huge, n, dtype), weights(n, "float32")
        for epsilon in (0.0, 1e-6):
            check(kernels, x, scale, epsilon=epsilon)
            check(kernels, x, scale, residual=np.zeros_like(x), epsilon=epsilon, tactic=1)
            if n < 100:
                check(kernels, np.ascontiguousarray(x.T), scale, axis=0, epsilon=epsilon)
    x = samples((7, 40), dtype)
    x[0], x[1], x[2, 3], x[3, 4], x[4, 5] = 0, -0.0, np.nan, np.inf, -np.inf
    x[5, 0], x[5, 8] = np.nan, np.inf
    for options in ({"epsilon": 0.0}, {"epsilon": 1e-6}, {"epsilon": 0.0, "rms_min": 0.5}, {"rms_epsilon": 1.0}):
        check(kernels, x, weights(40, "float32"), **options)
        check(kernels, np.ascontiguousarray(x.T), weights(40, "float32"), axis=0, **options)
    # An epsilon or a bound beyond what float32 can invert.
    for options in ({"rms_epsilon": 3e38}, {"rms_min": 2e38}, {"epsilon": 3e38}):
        if dtype != "float16":
            check(kernels, rows_of([3e38, 1e38], 64, dtype), np.full(64, 2.0**60, np.float32), **options)


def check_every_number(kernels: Kernels, dtype: str) -> None:
    """x / 1 * 1: what is read is written, subnormals, infinities and NaN included."""
    values = np.arange(65536, dtype=np.uint16).view(element_dtype(dtype))
    x = np.concatenate([np.ones(8, values.dtype), values])[None]
    y, _ = kernels.norm(x, np.ones(1, np.float32), partial_size=1, epsilon=0.0)
    number = ~np.isnan(values.astype(np.float32))
    assert (y[0, 8:].view(np.uint16) == values.view(np.uint16))[number].all()
    assert np.isnan(y[0, 8:][~number].astype(np.float32)).all()


def check_empty(kernels: Kernels) -> None:
    for shape in ((0, 8), (3, 0)):
        y, _ = kernels.norm(np.zeros(shape, np.float32), np.ones(max(1, shape[1]), np.float32), partial_size=1)
        assert y.size == 0


BY_TYPES = [
    *(check_lengths, check_alignments, check_partial, check_columns, check_in_place, check_long_rows),
    *(check_reciprocal, check_scale_rows, check_gates),
]
