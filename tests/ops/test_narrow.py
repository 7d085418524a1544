"""Rounding to a half type: to nearest, masks to the largest finite number, everything else to infinity."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from rms_deploy.ops.narrow import narrowed

FLOAT16, BFLOAT16 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
LOWEST = float(np.finfo(np.float32).min)


@pytest.mark.parametrize(
    ("number", "dtype", "expected"),
    [
        (1 + 2**-11, FLOAT16, 1.0),
        (1 + 3 * 2**-11, FLOAT16, 1 + 2**-9),
        (LOWEST, FLOAT16, -65504.0),
        (1e30, FLOAT16, 65504.0),
        (1e9, FLOAT16, np.inf),
        (-np.inf, FLOAT16, -np.inf),
        (LOWEST, BFLOAT16, float(ml_dtypes.finfo(BFLOAT16).min)),
        (1e30, BFLOAT16, float(np.float32(1e30).astype(BFLOAT16))),
    ],
)
def test_numbers(number, dtype, expected):
    (result,) = narrowed(np.array([number], np.float32), dtype)
    assert result.dtype == dtype
    assert float(result) == expected


def test_nan_stays():
    assert np.isnan(narrowed(np.array([np.nan], np.float32), FLOAT16)).all()
