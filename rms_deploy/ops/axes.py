"""The axes of a norm: given from either end, one contiguous block."""

from __future__ import annotations

from collections.abc import Sequence

from rms_deploy.errors import InputError

__all__ = ["normalized_axes"]


def normalized_axes(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """`axes` as sorted non-negative numbers.

    Raises:
        InputError: an axis is out of range or repeated, or the axes are not one contiguous block.
    """
    for axis in axes:
        if not -rank <= axis < rank:
            raise InputError(f"axes: {axis} is out of range for a tensor of rank {rank}; use {-rank} to {rank - 1}")
    block = tuple(sorted(axis % rank for axis in axes))
    if not block or block != tuple(range(block[0], block[0] + len(block))):
        raise InputError(f"axes: {list(axes)} is not a contiguous block of distinct axes of a tensor of rank {rank}")
    return block
