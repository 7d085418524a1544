"""The case table of what the kernels for general rows do: a shift, float32 and mixed sums, a quantised y."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rms_deploy.ops.contract import OPS, QUANTIZED_TYPES
from rms_deploy.ops.element_types import element_dtype, quantized_dtype
from rms_deploy.ops.reference import outputs_of, quantized

from .cases import EPSILONS, rows_of, samples, weights, weights_of_rows

if TYPE_CHECKING:
    from .driver import Kernels

LENGTHS = [1, 2, 3, 5, 8, 16, 63, 64, 111, 1024, 1025, 8192, 8200]
"""Those of one element and of a pack, around a warp, in one chunk of a block and in several; half of them odd."""


def shifts(n: int, dtype: str) -> Any:
    return np.random.default_rng(2).standard_normal(n).astype(element_dtype(dtype))


def assert_near(actual: Any, expected: Any, product: Any, *, rounds: bool) -> None:
    """`actual` is `expected`, scale * x / rms plus a shift, up to the roundings that the contract leaves open.

    `product` is scale * x / rms. As `cases.assert_close` says, it is 4 units of float32 away at most, or 2 of T where
    the quotient is rounded first; the sum is rounded to T once more, by a unit where that falls on the other side. What
    the shift cancels does not make these errors smaller. In 16 bits they move a result about once in 2^8 elements.
    """
    wide, exact = actual.astype(np.float64), expected.astype(np.float64)
    number = np.isfinite(exact)
    assert (np.isnan(wide) == np.isnan(exact)).all()
    assert (wide == exact)[np.isinf(exact)].all()
    unit = 2.0 ** {"float32": -23, "float16": -10, "bfloat16": -7}[actual.dtype.name]
    least = {"float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}[actual.dtype.name]
    size = np.abs(product[number])
    allowed = (4 * 2.0**-23 + (2 * unit if rounds else 0)) * size + unit * np.abs(exact[number]) + 2 * least
    assert (np.abs(wide - exact)[number] <= allowed).all()
    if actual.itemsize == 2:
        assert np.count_nonzero((wide != exact)[number]) <= max(4, number.size / 100)


def assert_same_bits(actual: Any, expected: Any) -> None:
    """Any NaN is one."""
    number, bits = ~np.isnan(expected.astype(np.float32)), f"i{expected.itemsize}"
    assert (np.isnan(actual.astype(np.float32)) == ~number).all()
    assert (actual.view(bits) == expected.view(bits))[number].all()


def neighbours(values: Any, units: int) -> list[Any]:
    """The numbers that are so many units in the last place away, on either side."""
    bits = values.view(f"i{values.itemsize}")
    return [(bits + step).view(values.dtype) for step in range(-units, units + 1)]


def assert_codes(actual: Any, y: Any, y_scale: float, dtype: Any, *, rounds: bool) -> None:
    """The codes of y, or of a neighbour of it where `cases.assert_close` allows one."""
    assert actual.dtype == dtype
    with np.errstate(all="ignore"):
        close = [
            quantized(value, y_scale, dtype).view("u1") for value in neighbours(y, 4 if y.itemsize == 4 else 1 + rounds)
        ]
    number, codes = ~np.isnan(y.astype(np.float32)), actual.view("u1")
    right = codes == quantized(y, y_scale, dtype).view("u1")
    assert np.any([codes == one for one in close], axis=0)[number].all()
    assert np.count_nonzero(~right[number]) <= max(4, y.size / 100)
    if np.issubdtype(dtype, np.floating):
        assert np.isnan(actual[~number].astype(np.float32)).all()


def check(
    kernels: Kernels,
    x: Any,
    scale: Any,
    *,
    residual: Any = None,
    shift: Any = None,
    in_float32: bool = False,
    output_dtype: str = "",
    y_scale: float = 0.0,
    round_before_scale: bool = False,
    **options: Any,
) -> Any:
    """One norm over the last axis against float64. Returns y."""
    parts = {"residual": residual, "shift": shift, "in_float32": in_float32}
    parts |= {"output_dtype": output_dtype, "y_scale": y_scale, "round_before_scale": round_before_scale}
    y, total = kernels.norm(x, scale, **parts, **options)
    name = "" if residual is None else "AddFloat32" if in_float32 else "Add"
    rows = _row_of_each(x, scale, options.get("scale_repeat", 1))
    inputs = {"X": x, "scale": scale if rows is None else scale[rows]}
    inputs |= {} if residual is None else {"R": residual}
    attributes = {k: float(np.float32(v)) for k, v in options.items() if k in ("epsilon", "rms_epsilon", "rms_min")}
    attributes["scale_type"] = {"float32": 1, "float16": 10, "bfloat16": 16}[x.dtype.name] if round_before_scale else 1
    expected = outputs_of(OPS[f"{name}RMSNorm"], inputs, **attributes)
    if residual is not None and total is not None:
        assert total.dtype == residual.dtype
        assert_same_bits(total, expected[1])
    if output_dtype:
        dtype = quantized_dtype(QUANTIZED_TYPES[output_dtype])
        assert_codes(y, expected[0], y_scale, dtype, rounds=round_before_scale)
        return y
    product = expected[0].astype(np.float64)
    if shift is not None:
        inputs["shift"] = shift if rows is None else shift[rows]
        expected = outputs_of(OPS[f"{name}RMSNormShift"], inputs, **attributes)
    assert_near(y, expected[0], product, rounds=round_before_scale)
    return y


def _row_of_each(x: Any, scale: Any, repeat: int) -> Any:
    """Of a scale of several rows, that of each row of x."""
    return np.arange(len(x)) // repeat % len(scale) if scale.ndim > 1 else None


def kinds(x: Any, n: int, scale_dtype: str, seed: int) -> list[dict[str, Any]]:
    """What makes a row general, alone and with a residual of each type that it may have."""
    dtype = x.dtype.name
    residuals = [samples(x.shape, u, seed) for u in sorted({dtype, "float32"})]
    adds: list[dict[str, Any]] = [{"residual": r} for r in residuals]
    shift = {"shift": shifts(n, scale_dtype)}
    codes: list[dict[str, Any]] = [
        {"output_dtype": "int8", "y_scale": 0.02},
        {"output_dtype": "float8e4m3fn", "y_scale": 0.01},
    ]
    sums = [add | {"in_float32": in_float32} for add in adds for in_float32 in (False, True)]
    return [*sums, *(add | last for add in ({}, *adds) for last in (shift, *codes))]


def check_kinds(kernels: Kernels, types: tuple[str, str]) -> None:
    """Each kind, in each order of rounding: lengths, epsilons, one scale for all."""
    number = 0
    for n in LENGTHS:
        rows = 2 if n > 512 else 7
        x, scale = samples((rows, n), types[0], n), weights(n, types[1])
        for kind in kinds(x, n, types[1], n + 1):
            number += 1
            rounds = bool(number % 2)
            epsilons = EPSILONS[number % 7] if number % 7 < 4 else {}
            check(kernels, x, scale, round_before_scale=rounds, **kind, **epsilons)
            if n < 512:
                check(kernels, x, scale, round_before_scale=not rounds, **kind)
            if "shift" not in kind:
                check(kernels, x, scale[:1], **kind)
            else:
                check(kernels, x, scale[:1], **{**kind, "shift": kind["shift"][:1]})


def check_skews(kernels: Kernels, types: tuple[str, str]) -> None:
    """Every misalignment, the same for all tensors or, in turns, another for y."""
    size, number = element_dtype(types[0]).itemsize, 0
    for skew in range(0, 16, size):
        for n in (5, 111):
            x, scale = samples((3, n), types[0], n), weights(n, types[1])
            for kind in kinds(x, n, types[1], n + 1):
                number += 1
                y_size = 1 if "output_dtype" in kind else size
                y_skew = (skew + y_size) % 16 if number % 2 else None
                check(kernels, x, scale, skew=skew, y_skew=y_skew, **kind)


def check_in_memory_of_inputs(kernels: Kernels, types: tuple[str, str]) -> None:
    """Outputs in the memory of inputs that have their type: rows in one chunk, and in several."""
    for n in (64, 111, 8200):
        x, scale = samples((2, n), types[0], n), weights(n, types[1])
        for kind in kinds(x, n, types[1], n + 1):
            residual = kind.get("residual")
            is_alike = residual is not None and residual.dtype == x.dtype
            if "output_dtype" not in kind:
                check(kernels, x, scale, y_is="x", **kind)
            if residual is not None:
                check(kernels, x, scale, sum_is="residual", **kind)
                check(kernels, x, scale, sum_is="residual", wants_sum=False, **kind)
            if is_alike:
                check(kernels, x, scale, sum_is="x", **kind)
                if "output_dtype" not in kind:
                    check(kernels, x, scale, y_is="residual", sum_is="x", **kind)
            if residual is not None:
                check(kernels, x, scale, wants_sum=False, **kind)


def check_rows_of_weights(kernels: Kernels, types: tuple[str, str]) -> None:
    """Several rows of scale and of shift, each for one or two rows of x in turns."""
    for n in (5, 64, 111, 4097):
        x, scale = samples((12, n), types[0]), weights_of_rows(3, n, types[1])
        shift = (weights_of_rows(3, n, "float32") - 2).astype(scale.dtype)
        for repeat in (1, 2):
            check(kernels, x, scale, shift=shift, scale_repeat=repeat)
            check(kernels, x, scale, shift=shift, scale_repeat=repeat, skew=x.itemsize)
            check(kernels, x, scale[:, :1].copy(), shift=shift[:, :1].copy(), scale_repeat=repeat)
            check(kernels, x, scale, output_dtype="int8", y_scale=0.1, scale_repeat=repeat)


def check_extreme_sums(kernels: Kernels, dtype: str) -> None:
    """Squares that overflow float32 or are lost to underflow; sums that only float32 can hold; infinities and NaN."""
    huge = [1, 3e4, 300, 1e-3, 1e-7, 2] if dtype == "float16" else [1, 1e38, 1e30, 1e19, 1e-15, 1e-22, 1e-37, 2]
    for n in (5, 16, 77, 4096):
        x, scale = rows_of(huge, n, dtype), weights(n, "float32")
        for kind in kinds(x, n, "float32", n + 1):
            if "residual" in kind:
                kind["residual"] = (rows_of(huge, n, "float32")[:, ::-1] / 3).astype(kind["residual"].dtype)
            for epsilon in (0.0, 1e-6):
                check(kernels, x, scale, epsilon=epsilon, **kind)
    x, scale = samples((7, 40), dtype), weights(40, "float32")
    for kind in kinds(x, 40, "float32", 3):
        x[0], x[1], x[2, 3], x[3, 4], x[4, 5] = 0, -0.0, np.nan, np.inf, -np.inf
        x[5, 0], x[5, 8] = np.nan, np.inf
        if "residual" in kind:
            kind["residual"][0] = 0
        for epsilon in (0.0, 1e-6):
            check(kernels, x, scale, epsilon=epsilon, **kind)


def check_every_code(kernels: Kernels, dtype: str, *, round_quotient: bool = False) -> None:
    """x / 1 * 1 of every 16-bit number, and of float32 around every tie: the codes are those of the reference."""
    numbers = np.arange(65536, dtype=np.uint16)
    values = numbers.view(element_dtype(dtype)) if dtype != "float32" else _around_ties()
    x = np.concatenate([np.ones(8, values.dtype), values])[None]
    one = np.ones(1, np.float32)
    for name, number in QUANTIZED_TYPES.items():
        target = quantized_dtype(number)
        for y_scale in (1.0, 0.5, 1 / 3, 0.1, 0.0123, 2.0**-7, 3.7, 1e-4, 1e-30, 1e30, 2.0**-140, 3e38):
            precision = x.dtype if round_quotient else np.dtype(np.float32)
            with np.errstate(all="ignore"):
                divisor = float(np.asarray(y_scale).astype(precision))
            if not 0 < divisor < np.inf:
                continue
            options = {"output_dtype": name, "y_scale": divisor, "round_quotient": round_quotient}
            y, _ = kernels.norm(x, one, partial_size=1, epsilon=0.0, **options)
            expected = quantized(x, divisor, target, precision=precision)
            is_number = ~np.isnan(x.astype(np.float32))
            assert (y.view("u1") == expected.view("u1"))[is_number].all(), (name, y_scale)
            if np.issubdtype(target, np.floating):
                assert np.isnan(y[~is_number].astype(np.float32)).all()


def _around_ties() -> Any:
    """Products of y_scale and what lies half way between two codes, and their neighbours; and any bits."""
    ties = np.concatenate([np.arange(-130, 130) + 0.5, np.arange(-40, 500) / 1024, np.arange(-460, 460, 4.0)])
    products = np.concatenate([(ties * s).astype(np.float32) for s in (1.0, 0.5, 1 / 3, 0.1, 0.0123, 3.7)])
    bits = np.concatenate([products.view("i4") + step for step in range(-2, 3)])
    return np.concatenate([bits.view("f4"), np.random.default_rng(0).integers(0, 2**32, 4096, np.uint32).view("f4")])


BY_TYPES = [check_kinds, check_skews, check_in_memory_of_inputs, check_rows_of_weights]
