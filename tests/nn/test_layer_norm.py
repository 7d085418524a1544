"""The twin to compare with."""

from __future__ import annotations

import torch

from rms_deploy.nn import LayerNorm


def test_layer_norm_is_torchs() -> None:
    x = torch.randn(3, 16)
    torch.testing.assert_close(LayerNorm(16)(x), torch.nn.functional.layer_norm(x, (16,)))
    assert len(list(LayerNorm(16).parameters())) == 2
    assert list(LayerNorm(16, scale=False).parameters()) == []
