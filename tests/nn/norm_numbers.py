"""Random weights, the norm in float64, and how near to it a module is."""

from __future__ import annotations

import ml_dtypes  # noqa: F401 - gives numpy bfloat16
import numpy as np
import torch

from rms_deploy.ops.ulp import ulp_distance

__all__ = ["array", "assert_near", "formula", "randomized"]


def array(tensor: torch.Tensor) -> np.ndarray:
    """The tensor as numpy holds it, bfloat16 too."""
    return tensor.detach().double().numpy().astype(np.dtype(str(tensor.dtype).removeprefix("torch.")))


def assert_near(actual: torch.Tensor, expected: np.ndarray) -> None:
    """Half types: float32 in between moves an element over a rounding boundary, by an ulp, in one of a hundred.

    Where it cancels, a sum shows an ulp of its larger term. Wider types: sixteen roundings.
    """
    given = array(actual)
    assert (given.dtype, given.shape) == (expected.dtype, expected.shape)
    eps = torch.finfo(actual.dtype).eps
    if given.dtype.itemsize == 2:
        distance = ulp_distance(given, expected)
        assert np.count_nonzero(distance) <= given.size // 100
        np.testing.assert_allclose(given.astype(np.float64), expected.astype(np.float64), rtol=2 * eps, atol=8 * eps)
    else:
        np.testing.assert_allclose(given, expected, rtol=16 * eps, atol=16 * eps)


def formula(x, scale, *, axes=(-1,), epsilon=1e-6, rms_epsilon=0.0, rms_min=0.0):
    rms = torch.sqrt(x.double().square().mean(axes, keepdim=True) + epsilon) + rms_epsilon
    return x.double() / rms.clamp(min=rms_min) * scale


@torch.no_grad()
def randomized(module: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module
