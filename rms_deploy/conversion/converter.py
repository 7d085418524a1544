"""What ONNX Runtime brings for half precision: its converter, that one's rules, and the schemas of its operators."""

from __future__ import annotations

from typing import Any

from rms_deploy.errors import MissingDependencyError

try:
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema
    from onnxruntime.transformers.float16 import (
        ALWAYS_FLOAT_INPUTS,
        DEFAULT_OP_BLOCK_LIST,
        convert_float_to_float16,
    )
except ImportError as error:
    raise MissingDependencyError(
        "onnxruntime is not installed, whose converter `rms_deploy.cast` needs; run: pip install onnxruntime (or "
        "onnxruntime-gpu, never both)"
    ) from error

__all__ = ["ALWAYS_FLOAT_INPUTS", "DEFAULT_OP_BLOCK_LIST", "convert_float_to_float16", "operator_schemas"]


def operator_schemas() -> list[Any]:
    """The schemas of all operators that ONNX Runtime knows."""
    schemas: list[Any] = get_all_operator_schema()
    return schemas
