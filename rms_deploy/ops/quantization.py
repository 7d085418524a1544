"""Which opsets of ONNX quantise to which type."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from rms_deploy.errors import InputError
from rms_deploy.ops.contract import Op

__all__ = ["require_quantization_opset"]

_OPSETS: Final = {"int8": 10, "float8_e4m3fn": 19}
"""The first in which QuantizeLinear gives a dtype."""


def require_quantization_opset(op: Op, dtype: np.dtype[Any], opset: int) -> None:
    """Check that ONNX `opset` can express `op`, which quantises to `dtype`.

    Raises:
        InputError: it cannot.
    """
    if opset < _OPSETS[dtype.name]:
        raise InputError(
            f"{op.name}: opset {opset} has no QuantizeLinear to {dtype.name}; use opset >= {_OPSETS[dtype.name]}"
        )
