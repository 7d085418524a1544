"""The float64 reference that the numeric tests compare with. It shares no arithmetic with what they test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from rms_deploy.errors import InputError
from rms_deploy.ops.axes import normalized_axes
from rms_deploy.ops.contract import ELEMENT_TYPES, Op
from rms_deploy.ops.element_types import quantized_dtype

__all__ = ["add_rms_norm", "gated_rms_norm", "outputs_of", "quantized", "rms_norm"]


def rms_norm(
    x: NDArray[Any],
    scale: NDArray[Any] | None = None,
    *,
    axes: Sequence[int] = (-1,),
    epsilon: float = 1e-6,
    rms_epsilon: float = 0.0,
    rms_min: float = 0.0,
    round_before_scale: bool = False,
    round_reciprocal: bool = False,
    partial_size: int | None = None,
    shift: NDArray[Any] | None = None,
    dtype: Any = None,
) -> NDArray[Any]:
    """y = scale * x / max(sqrt(mean(x^2 over axes) + epsilon) + rms_epsilon, rms_min) [+ shift]

    Computed in float64 throughout; only the roundings that the contract names are made:
    `round_before_scale` False (`scale_type` float32): y is rounded once, to `dtype`;
    True (`scale_type` = type of X): x / rms and scale are rounded to `dtype`, then their product is;
    with a shift, the product and the shift are rounded to `dtype`, then their sum is;
    `round_reciprocal` too (the Reciprocal ops): 1 / rms is rounded to `dtype`, then its product with x, and so on.

    Args:
        x: any float dtype, any shape.
        scale: broadcasts against x; None is 1.
        axes: contiguous block of axes.
        epsilon: added to the mean square, inside the root.
        rms_epsilon: added to the root.
        rms_min: lower bound of the root.
        round_before_scale: see above.
        round_reciprocal: see above; it changes nothing without `round_before_scale`, and nothing in float32.
        partial_size: mean over the first `partial_size` elements of the block, in row-major order (pRMSNorm).
        shift: as scale; None is 0.
        dtype: of the result; default that of x. float64 makes no rounding at all.

    Returns:
        Array of the shape of x. Division by a zero RMS gives NaN or infinity, as the formula does.

    Raises:
        InputError: wrong axes, or `partial_size` outside 1 ... n.

    Source:
        Zhang and Sennrich, Root Mean Square Layer Normalization, 2019, equations 4 and 6.
    """
    dtype = x.dtype if dtype is None else np.dtype(dtype)
    block = normalized_axes(axes, x.ndim)
    outer, n, inner = (
        math.prod(part) for part in (x.shape[: block[0]], x.shape[block[0] : block[-1] + 1], x.shape[block[-1] + 1 :])
    )
    if partial_size is not None and not 1 <= partial_size <= n:
        raise InputError(f"partial_size: {partial_size} is not in 1 ... {n}, the number of normalised elements")
    wide = x.astype(np.float64).reshape(outer, n, inner)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        squares = np.square(wide[:, :partial_size])
        mean_square = squares.mean(axis=1, keepdims=True) if n else np.zeros((outer, 1, inner))
        rms = np.maximum(np.sqrt(mean_square + epsilon) + rms_epsilon, rms_min)
        if round_before_scale and round_reciprocal and dtype.itemsize == 2:
            quotient = wide * (1 / rms).astype(dtype).astype(np.float64)
        else:
            quotient = wide / rms
        normed: NDArray[Any] = quotient.reshape(x.shape)
        step = dtype if round_before_scale else np.dtype(np.float64)
        y = _rounded(normed, step)
        if scale is not None:
            y = _rounded(y * _rounded(scale, step), step)
        if shift is not None:
            y = y + _rounded(shift, step)
        return y.astype(dtype)


def _rounded(values: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Rounded to `dtype`, in float64."""
    rounded: NDArray[Any] = values.astype(dtype).astype(np.float64)
    return rounded


def add_rms_norm(
    x: NDArray[Any],
    residual: NDArray[Any],
    scale: NDArray[Any] | None = None,
    *,
    in_float32: bool = False,
    dtype: Any = None,
    **options: Any,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """sum = x + residual, rounded to the dtype of the residual; y = rms_norm(sum rounded to the dtype of x).

    With `in_float32` y = rms_norm(x + residual in float32), and sum is what that is rounded to. Other options as in
    `rms_norm`.

    Returns:
        (y, sum), both of the shape of x.
    """
    dtype = x.dtype if dtype is None else np.dtype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = x.astype(np.float64) + residual.astype(np.float64)
        normalized = exact.astype(np.float32) if in_float32 else exact.astype(residual.dtype).astype(x.dtype)
        total = (normalized if in_float32 else exact).astype(residual.dtype)
    return rms_norm(normalized, scale, dtype=dtype, **options), total


def quantized(y: NDArray[Any], y_scale: float, dtype: Any, *, precision: Any = np.float32) -> NDArray[Any]:
    """y / y_scale, rounded to `precision`, then to the nearest `dtype`, ties to even, and saturated.

    Args:
        y: any float dtype.
        y_scale: a number; `precision` can hold it.
        precision: dtype of the quotient.
        dtype: int8, or float8_e4m3fn of `ml_dtypes`. A NaN is one in float8; of an int8 the contract says nothing.

    Source:
        ONNX, QuantizeLinear.
    """
    dtype = np.dtype(dtype)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        quotient = (y.astype(np.float64) / np.float64(y_scale)).astype(precision).astype(np.float32)
        if np.issubdtype(dtype, np.integer):
            bounds = np.iinfo(dtype)
            codes: NDArray[Any] = np.clip(np.rint(quotient), bounds.min, bounds.max).astype(dtype)
            return codes
        most = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]  # ml_dtypes leaves it untyped
        floats: NDArray[Any] = np.clip(quotient, -most, most).astype(dtype)
        return floats


def gated_rms_norm(
    x: NDArray[Any],
    z: NDArray[Any],
    scale: NDArray[Any] | None = None,
    *,
    gate: str = "SiluGate",
    before: bool = False,
    dtype: Any = None,
    **options: Any,
) -> NDArray[Any]:
    """y = rms_norm(x) * g, or y = rms_norm(x * g), where g = z * sigmoid(z) (SiluGate) or sigmoid(z) (SigmoidGate).

    A product in front of the norm is not rounded. Behind it, rms_norm(x) is rounded as `round_before_scale` says, to
    `dtype` or not at all, and the product with g once, to `dtype`. Other options as in `rms_norm`.

    Returns:
        Array of the shape of x.
    """
    dtype = x.dtype if dtype is None else np.dtype(dtype)
    wide = z.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        sigma = 1 / (1 + np.exp(-wide))
        factor = sigma if gate == "SigmoidGate" else wide * sigma
        if before:
            product = x.astype(np.float64) * factor
            return rms_norm(product, scale, dtype=dtype, **options)
        inner = dtype if options.get("round_before_scale") else np.float64
        y: NDArray[Any] = (rms_norm(x, scale, dtype=inner, **options).astype(np.float64) * factor).astype(dtype)
        return y


def outputs_of(
    op: Op, inputs: Mapping[str, NDArray[Any]], *, dtype: Any = None, **attributes: Any
) -> tuple[NDArray[Any], ...]:
    """What `op` gives for its `inputs`, by name, and its attributes, in the order of its outputs.

    Args:
        op: one of the contract.
        inputs: by the names that the op gives them.
        dtype: what the norm is rounded to; default the dtype of X. float64 makes no rounding, and no quantisation.
        **attributes: of the node.
    """
    x, scale = inputs["X"], inputs["scale"]
    given = {**op.defaults(), **attributes}
    options: dict[str, Any] = {
        name: given[name] for name in ("axes", "epsilon", "rms_epsilon", "rms_min", "partial_size") if name in given
    }
    rounds_first = given["scale_type"] != ELEMENT_TYPES["float32"]
    options |= {"round_before_scale": rounds_first, "round_reciprocal": op.is_reciprocal, "dtype": dtype}
    if op.is_gated:
        options.pop("round_reciprocal")
        return (gated_rms_norm(x, inputs["Z"], scale, gate=op.gate, before=op.gates_first, **options),)
    options["shift"] = inputs.get("shift")
    totals: tuple[NDArray[Any], ...] = ()
    if op.is_add:
        y, total = add_rms_norm(x, inputs["R"], scale, in_float32=op.prologue == "AddFloat32", **options)
        totals = (total,)
    else:
        y = rms_norm(x, scale, **options)
    if op.is_quantized and y.dtype != np.float64:
        precision = x.dtype if given["precision"] != ELEMENT_TYPES["float32"] else np.float32
        y = quantized(
            y, float(np.float32(given["y_scale"])), quantized_dtype(given["output_dtype"]), precision=precision
        )
    return (y, *totals)
