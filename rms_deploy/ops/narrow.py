"""Numbers of float32 in a half type, as `cast` writes them and `verify` rounds them."""

from __future__ import annotations

from typing import Any, Final

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

__all__ = ["MASK", "narrowed"]

MASK: Final = 1e30
"""From here on a finite number stands for infinity, as the -3.4e38 of an attention mask does."""


def narrowed(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """`array` rounded to nearest in `dtype`; a mask that is beyond `dtype` becomes its largest finite number.

    Args:
        array: of a float type.
        dtype: float16 or bfloat16.
    """
    largest = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]  # ml_dtypes leaves it untyped
    wide = array.astype(np.float32)
    masks = np.isfinite(wide) & (np.abs(wide) >= max(MASK, largest))
    with np.errstate(over="ignore"):
        return np.where(masks, np.copysign(np.float32(largest), wide), wide).astype(dtype)
