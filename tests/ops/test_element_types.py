"""Element types as numpy sees them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from rms_deploy.errors import InputError
from rms_deploy.ops.contract import ELEMENT_TYPES
from rms_deploy.ops.element_types import ELEMENT_NAMES, HALF, element_dtype, float_info, is_float, is_quantized


def test_the_types_are_those_of_the_contract() -> None:
    assert {name: int(dtype) for dtype, name in ELEMENT_NAMES.items()} == ELEMENT_TYPES
    for dtype, name in ELEMENT_NAMES.items():
        assert element_dtype(name) == dtype.numpy()
    assert set(HALF) == set(ELEMENT_NAMES) - {ir.DataType.FLOAT}


def test_element_dtype_names_what_is_accepted() -> None:
    with pytest.raises(InputError, match="dtype 'int8' is not supported; use float32, float16, bfloat16"):
        element_dtype("int8")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_floats(dtype: type) -> None:
    assert is_float(np.dtype(dtype))
    info = float_info(np.dtype(dtype))
    assert dtype(1) + dtype(info.eps) > 1
    assert dtype(1) + dtype(info.eps / 4) == 1
    assert dtype(info.smallest_normal) > 0


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_what_is_no_float(dtype: type) -> None:
    assert not is_float(np.dtype(dtype))


@pytest.mark.parametrize(
    ("dtype", "expected"), [(np.int8, True), (ml_dtypes.float8_e4m3fn, True), (np.uint8, False), (np.float16, False)]
)
def test_what_is_quantised(dtype: type, expected: bool) -> None:
    assert is_quantized(np.dtype(dtype)) is expected
