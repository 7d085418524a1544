"""Which opsets of ONNX quantise to which type."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from rms_deploy.errors import InputError
from rms_deploy.ops.contract import ELEMENT_TYPES, Op

__all__ = ["require_quantization_opset"]

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
    needed = _OPSETS[dtype.name]
    if opset < needed:
        raise InputError(f"{op.name}: opset {opset} has no QuantizeLinear to {dtype.name}; use opset >= {needed}")
    if precision != _FLOAT32 and opset < _HALF_OPSET:
        raise InputError(
            f"{op.name}: opset {opset} has no QuantizeLinear of a half type; use opset >= {_HALF_OPSET}, or precision "
            f"{_FLOAT32} (float32)"
        )
