"""GPU types by Ray's names."""

from __future__ import annotations

import pytest

from rms_deploy.deployment.gpu_types import capability_of
from rms_deploy.errors import InputError


@pytest.mark.parametrize(
    ("gpu_type", "capability"),
    [("L4", "sm89"), ("T4", "sm75"), ("A10G", "sm86"), ("GeForce-RTX-5090", "sm120"), ("SM120", "sm120")],
)
def test_types(gpu_type, capability):
    assert capability_of(gpu_type) == capability


def test_an_unknown_type_says_what_to_announce():
    with pytest.raises(InputError, match=r"GPU type X99: its compute capability is not known.*accelerator_type:sm89"):
        capability_of("X99")
