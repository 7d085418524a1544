"""Element types as numpy sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from rms_deploy.errors import InputError
from rms_deploy.ops.contract import ELEMENT_TYPES, QUANTIZED_TYPES

__all__ = [
    "ELEMENT_NAMES",
    "HALF",
    "FloatInfo",
    "element_dtype",
    "float_info",
    "is_float",
    "is_quantized",
    "quantized_dtype",
]

_DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


_QUANTIZED_DTYPES: dict[str, np.dtype[Any]] = {
    "int8": np.dtype(np.int8),
    "float8e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
}


def element_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype of a contract dtype name.

    Raises:
        InputError: `name` is not float32, float16 or bfloat16.
    """
    try:
        return _DTYPES[name]
    except KeyError:
        raise InputError(f"dtype {name!r} is not supported; use {', '.join(ELEMENT_TYPES)}") from None


def quantized_dtype(element_type: int) -> np.dtype[Any]:
    """The numpy dtype of an ONNX element type that a quantised Y may have.

    Raises:
        InputError: it is neither int8 nor float8e4m3fn.
    """
    for name, number in QUANTIZED_TYPES.items():
        if number == element_type:
            return _QUANTIZED_DTYPES[name]
    names = ", ".join(f"{number} ({name})" for name, number in QUANTIZED_TYPES.items())
    raise InputError(f"output_dtype {element_type} is not supported; use {names}")


def is_quantized(dtype: np.dtype[Any]) -> bool:
    """Whether `dtype` is one that a quantised Y may have."""
    return dtype in _QUANTIZED_DTYPES.values()


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether `dtype` is a float type, bfloat16 among them."""
    return dtype == ml_dtypes.bfloat16 or np.issubdtype(dtype, np.floating)


ELEMENT_NAMES = {ir.DataType.FLOAT: "float32", ir.DataType.FLOAT16: "float16", ir.DataType.BFLOAT16: "bfloat16"}
"""Element types that the contract has, with their contract names."""


HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
"""Element types that round more than float32."""


@dataclass(frozen=True)
class FloatInfo:
    eps: float
    smallest_normal: float


def float_info(dtype: np.dtype[Any]) -> FloatInfo:
    info = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]  # ml_dtypes leaves it untyped
    return FloatInfo(float(info.eps), float(info.smallest_normal))
