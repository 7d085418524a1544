"""The state space model: its quadratic form is the recurrence, and it is causal."""

from __future__ import annotations

import torch

from rms_deploy.models.mamba2 import mamba2


@torch.no_grad()
def test_quadratic_form_is_the_recurrence() -> None:
    layer = mamba2().module.layers[0].double()
    generator = torch.Generator().manual_seed(1)
    batch, heads, length, head, state = 2, 6, 11, 16, 8
    x = torch.randn(batch, heads, length, head, dtype=torch.float64, generator=generator)
    b, c = (torch.randn(batch, length, state, dtype=torch.float64, generator=generator) for _ in range(2))
    step = torch.rand(batch, heads, length, dtype=torch.float64, generator=generator)
    h = torch.zeros(batch, heads, head, state, dtype=torch.float64)
    outputs = []
    for t in range(length):
        decay = torch.exp(-layer.log_decay.exp() * step[:, :, t])[..., None, None]
        h = decay * h + step[:, :, t, None, None] * x[:, :, t, :, None] * b[:, None, None, t]
        outputs.append(h @ c[:, None, t, :, None])
    expected = torch.stack(outputs, dim=2).squeeze(-1)
    torch.testing.assert_close(layer._mix(x, b, c, step), expected)


@torch.no_grad()
def test_causal() -> None:
    model = mamba2().module
    ids = torch.randint(256, (2, 12), generator=torch.Generator().manual_seed(3))
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 256
    a, b = model(ids), model(changed)
    torch.testing.assert_close(a[:, :-1], b[:, :-1])
    assert not torch.allclose(a[:, -1], b[:, -1])
