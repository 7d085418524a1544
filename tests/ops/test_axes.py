"""Axes from either end, and every way to get them wrong."""

from __future__ import annotations

import re

import pytest

from rms_deploy.errors import InputError
from rms_deploy.ops.axes import normalized_axes


@pytest.mark.parametrize(
    ("axes", "rank", "block"),
    [([-1], 3, (2,)), ([2], 3, (2,)), ([-1, -2], 3, (1, 2)), ([0, -1, 1], 3, (0, 1, 2)), ([0], 1, (0,))],
)
def test_the_block(axes, rank, block) -> None:
    assert normalized_axes(axes, rank) == block


@pytest.mark.parametrize(
    ("axes", "rank", "message"),
    [
        ([2], 2, "axes: 2 is out of range for a tensor of rank 2; use -2 to 1"),
        ([-3], 2, "axes: -3 is out of range for a tensor of rank 2; use -2 to 1"),
        ([0], 0, "axes: 0 is out of range for a tensor of rank 0"),
        ([0, 0], 2, "axes: [0, 0] is not a contiguous block of distinct axes of a tensor of rank 2"),
        ([1, -1], 2, "axes: [1, -1] is not a contiguous block"),
        ([0, 2], 3, "axes: [0, 2] is not a contiguous block"),
        ([], 2, "axes: [] is not a contiguous block"),
    ],
)
def test_refusals(axes, rank, message) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        normalized_axes(axes, rank)
