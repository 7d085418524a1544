"""Arguments that have two names."""

from __future__ import annotations

import pytest

from rms_deploy.errors import InputError
from rms_deploy.nn import PartialRMSNorm, RMSNorm


def test_the_names_of_torch() -> None:
    norm = RMSNorm(normalized_shape=(3, 4), eps=1e-5, elementwise_affine=False)
    assert (norm.shape, norm.epsilon, norm.weight) == ((3, 4), 1e-5, None)
    assert PartialRMSNorm(8, 0.5, eps=1e-5).epsilon == 1e-5
    with pytest.raises(InputError, match="epsilon and eps are one argument; give one of them"):
        RMSNorm(8, 1e-6, eps=1e-5)
    with pytest.raises(InputError, match=r"shape: .* is not accepted"):
        RMSNorm()
