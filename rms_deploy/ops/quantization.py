"""Which opsets of ONNX quantise to which type."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from rms_deploy.errors import InputError
from rms_deploy.ops.contract import ELEMENT_TYPES, Op

__all__ = ["require_quantization_opset", "why_not_in_opset"]

_FLOAT32: Final = ELEMENT_TYPES["float32"]

_OPSETS: Final = {"int8": 10, "float8_e4m3fn": 19}
"""The first in which QuantizeLinear gives a dtype."""

_HALF_OPSET: Final = 19
"""The first in which it takes a half type."""


def require_quantization_opset(op: Op, dtype: np.dtype[Any], opset: int, *, precision: int = _FLOAT32) -> None:
    """Check that ONNX `opset` can express `op`, which quantises to `dtype`, and divides in the type `precision`.

    Raises:
        InputError: it cannot.
    """
    why_not = why_not_in_opset(dtype, opset, precision=precision)
    if why_not is not None:
        raise InputError(f"{op.name}: {why_not}")


def why_not_in_opset(dtype: np.dtype[Any], opset: int, *, precision: int = _FLOAT32) -> str | None:
    """Why ONNX `opset` does not quantise to `dtype`, dividing in the type `precision`; None: it does."""
    needed = _OPSETS[dtype.name]
    if opset < needed:
        return f"opset {opset} has no QuantizeLinear to {dtype.name}; use opset >= {needed}"
    if precision != _FLOAT32 and opset < _HALF_OPSET:
        return (
            f"opset {opset} has no QuantizeLinear of a half type; use opset >= {_HALF_OPSET}, or precision "
            f"{_FLOAT32} (float32)"
        )
    return None
