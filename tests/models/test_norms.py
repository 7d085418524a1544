"""The norm factory of the built-in models."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rms_deploy.errors import InputError
from rms_deploy.models.norms import make_norm
from rms_deploy.nn import LayerNorm, PartialRMSNorm, RMSNorm


def test_each_kind() -> None:
    norm = make_norm("rmsnorm", 32, 1e-5, round_before_scale=True)
    assert type(norm) is RMSNorm
    assert (norm.epsilon, norm.round_before_scale, norm.axes) == (1e-5, True, [-1])
    assert type(make_norm("layernorm", 32, 1e-5)) is LayerNorm
    assert type(make_norm("none", 32, 1e-5)) is nn.Identity


@pytest.mark.parametrize(
    ("name", "size"), [("prmsnorm", 2), ("prmsnorm:0.25", 8), ("prmsnorm:.5", 16), ("prmsnorm:1", 32)]
)
def test_fraction(name, size) -> None:
    partial = make_norm(name, 32, 1e-5)
    assert isinstance(partial, PartialRMSNorm)
    assert partial.partial_size == size


@pytest.mark.parametrize("name", ["rmsnorm", "prmsnorm:0.5", "layernorm"])
def test_channels(name) -> None:
    """Over axis 1 as over the last one, once the axes are moved."""
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first, last = make_norm(name, 6, 1e-5, channels=True).double(), make_norm(name, 6, 1e-5).double()
    torch.testing.assert_close(first(x), last(x.movedim(1, -1)).movedim(-1, 1))


@pytest.mark.parametrize("name", ["batch", "rmsnorm:0.5", "layernorm:1", ""])
def test_unknown_kind(name) -> None:
    with pytest.raises(InputError, match=r"is not known; use rmsnorm, prmsnorm, prmsnorm:P, layernorm or none"):
        make_norm(name, 32, 1e-5)


@pytest.mark.parametrize("text", ["0", "-0.5", "1.01", "nan", "half", ""])
def test_fraction_outside_its_range(text) -> None:
    with pytest.raises(InputError, match=r"is no fraction; use 0 < P <= 1, as in prmsnorm:0.25"):
        make_norm(f"prmsnorm:{text}", 32, 1e-5)
