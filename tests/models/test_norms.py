"""The norm factory of the built-in models."""

from __future__ import annotations

import pytest

from rms_deploy.errors import InputError
from rms_deploy.models.norms import make_norm
from rms_deploy.nn import LayerNorm, PartialRMSNorm, RMSNorm


def test_each_kind() -> None:
    assert type(make_norm("rmsnorm", 32, 1e-5, round_before_scale=True)) is RMSNorm
    partial = make_norm("prmsnorm", 32, 1e-5, round_before_scale=True)
    assert isinstance(partial, PartialRMSNorm)
    assert partial.partial_size == 2
    assert type(make_norm("layernorm", 32, 1e-5, round_before_scale=True)) is LayerNorm


def test_unknown_kind() -> None:
    with pytest.raises(InputError, match="norm 'batch' is not known; use rmsnorm, prmsnorm or layernorm"):
        make_norm("batch", 32, 1e-5, round_before_scale=True)
