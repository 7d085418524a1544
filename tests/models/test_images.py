"""The networks of images: where their norms are, and that order matters to them."""

from __future__ import annotations

import pytest
import torch

from rms_deploy.models.convnet import convnet
from rms_deploy.models.vit import vit
from rms_deploy.nn import RMSNorm


@pytest.mark.parametrize(("factory", "channels", "last"), [(convnet, 4, 1), (vit, 0, 5)])
def test_axes_of_the_norms(factory, channels, last) -> None:
    norms = [module for module in factory().module.modules() if isinstance(module, RMSNorm)]
    assert [norm.axes for norm in norms] == [[-3]] * channels + [[-1]] * last
    assert all(0.1 < norm.weight.std().item() < 0.6 for norm in norms)


@pytest.mark.parametrize("factory", [convnet, vit])
@torch.no_grad()
def test_every_corner_counts(factory) -> None:
    """A pixel of one image changes its logits, and those alone."""
    model, (image,), *_ = factory()
    changed = image.clone()
    changed[0, 0, -1, 0] += 10
    before, after = model(image), model(changed)
    assert before.shape == (2, 100)
    torch.testing.assert_close(before[1], after[1])
    assert float((before[0] - after[0]).abs().max()) > 1e-3
