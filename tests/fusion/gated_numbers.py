"""How near the numbers of a fused gate are to those of float64."""

from __future__ import annotations

import numpy as np

from rms_deploy.ops.ulp import ulp_distance


def assert_near(actual: np.ndarray, expected: np.ndarray) -> None:
    """float32: a norm and its gate round some fifteen times, 16 eps of the element.

    Half types: what float32 rounds is far below one ulp. It moves an element over a rounding boundary, by one ulp
    before the last product and two after it, in few elements.
    """
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    if actual.dtype.itemsize == 4:
        np.testing.assert_allclose(actual, expected, rtol=16 * 2**-23, atol=1e-35)
        return
    distance = ulp_distance(actual, expected)
    assert distance.max() <= 2
    assert np.count_nonzero(distance) <= max(1, actual.size // 50)
