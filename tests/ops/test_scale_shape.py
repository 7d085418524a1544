"""Which shapes a scale may have, and what is said of the others."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rms_deploy.ops.scale_shape import varies_outside, why_not_taken


@pytest.mark.parametrize(
    ("scale", "x", "axes"),
    [
        ((), (3, 8), (-1,)),
        ((8,), (3, 8), (-1,)),
        ((1, 8), (3, 8), (1,)),
        ((6, 1, 1), (2, 6, 3, 4), (1,)),
        ((4, 8), (2, 3, 4, 8), (-1,)),
        ((4, 1), (2, 3, 4, 8), (-1,)),
        ((2, 1, 8), (2, 3, 8), (-1,)),
        (("b", 1, 8), ("b", "s", 8), (-1,)),
        (("b", "s", 8), ("b", "s", 8), (-1,)),
        ((3, 1, 4, 5), (2, 3, 7, 4, 5), (-2, -1)),
        ((2, 1, 4, 8), (2, 1, 4, 8), (-1,)),
        ((0,), (3, 0), (-1,)),
        ((2, 6, 1), (2, 6, 3), (1,)),
    ],
)
def test_what_is_taken(scale, x, axes):
    assert why_not_taken(scale, x, axes) is None


@pytest.mark.parametrize(
    ("scale", "x", "axes", "reason"),
    [
        ((1, 3, 8), (3, 8), (-1,), "does not broadcast to x"),
        ((7,), (3, 8), (-1,), "does not broadcast to x"),
        ((2, 1, 8), (1, 3, 8), (-1,), "does not broadcast to x"),
        (("c", 1, 8), ("b", "s", 8), (-1,), "does not broadcast to x"),
        ((None, 1, 8), (None, "s", 8), (-1,), "does not broadcast to x"),
        ((8,), (3, 4, 8), (1, 2), "varies along some of the axes only"),
        ((3, 1), (2, 3, 8), (1, 2), "varies along some of the axes only"),
        ((8,), (3, 4, 8), (1,), "varies behind the axes"),
        ((2, 1, 4, 8), (2, 3, 4, 8), (-1,), "varies along two axes in front, and not along one between them"),
    ],
)
def test_what_is_not_taken(scale, x, axes, reason):
    assert why_not_taken(scale, x, axes) == reason


def test_what_is_taken_is_rows_in_turns():
    """Row r of X takes row r / repeat % rows, for some numbers: what the kernels do. What is not taken has none."""
    x, axes = (2, 3, 4, 5), (3,)
    for full in itertools.product((False, True), repeat=4):
        scale = tuple(size if is_full else 1 for size, is_full in zip(x, full, strict=True))
        size = scale[-1]
        rows = np.broadcast_to(np.arange(np.prod(scale)).reshape(scale), (*x[:3], size)).reshape(24, size)
        count = int(np.prod(scale[:3]))
        numbers = np.arange(24)
        in_turns = any(np.array_equal(rows[:, 0] // size, numbers // repeat % count) for repeat in range(1, 25))
        assert (why_not_taken(scale, x, axes) is None) == in_turns, scale


@pytest.mark.parametrize(
    ("scale", "axes", "rank", "expected"),
    [
        ((8,), (-1,), 3, False),
        ((1, 8), (2,), 3, False),
        ((4, 8), (-1,), 3, True),
        (("b", 1, 8), (-1,), 3, True),
        ((6, 1, 1), (1,), 4, False),
        ((6, 1, 4), (1,), 4, True),
        ((), (-1,), 3, False),
    ],
)
def test_what_varies_outside(scale, axes, rank, expected):
    assert varies_outside(scale, axes, rank) == expected
