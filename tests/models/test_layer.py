"""The norm that is a model of its own."""

from __future__ import annotations

import pytest
import torch

from rms_deploy.models.layer import norm_4096
from rms_deploy.nn import LayerNorm, PartialRMSNorm, RMSNorm


@pytest.mark.parametrize(
    ("norm", "kind"), [("rmsnorm", RMSNorm), ("prmsnorm:0.25", PartialRMSNorm), ("layernorm", LayerNorm)]
)
@torch.no_grad()
def test_each_norm_takes_rows_of_4096(norm, kind) -> None:
    module, (x,), shapes, names = norm_4096(norm)
    assert type(module) is kind
    assert module(x).shape == x.shape == (128, 4096)
    assert (shapes, names) == (({0: "rows"},), ("y",))
