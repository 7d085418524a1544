"""Which shapes a scale may have beside X. `plugins/node.cpp` holds the same rule for the libraries.

X is seen as (outer, n, inner) around the block of axes. A scale has no more axes than X, broadcasts to it, and has

1. all n elements along the block, or one;
2. one element behind the block;
3. in front of it, all elements or one along each axis. No other axis of X lies between those that it varies along. So
   there is one row of scale for all, for each group ([g, n / g]), for each sample ([b, 1, n]) or for each row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["broadcasts", "varies_outside", "why_not_taken"]

_Dim = int | str | None


def varies_outside(scale: Iterable[object], axes: Sequence[int], rank: int) -> bool:
    """Whether a scale of this shape, beside X of `rank` axes, varies along another axis than the block's."""
    block, dims = {axis % rank for axis in axes}, tuple(scale)
    return any(dim != 1 and axis not in block for axis, dim in enumerate(dims, rank - len(dims)))


def broadcasts(scale: Sequence[_Dim], x: Sequence[_Dim]) -> bool:
    """Whether a product with x has the shape of x. Equal symbols are one size, and None is a size that is not known."""
    pairs = zip(reversed(scale), reversed(x), strict=False)
    return len(scale) <= len(x) and all(dim is not None and dim in (1, of_x) for dim, of_x in pairs)


def why_not_taken(scale: Sequence[_Dim], x: Sequence[_Dim], axes: Sequence[int]) -> str | None:
    """Why the ops do not take a scale of this shape beside X, to follow 'it'; None: they take it."""
    if not broadcasts(scale, x):
        return "does not broadcast to x"
    dims = (*[1] * (len(x) - len(scale)), *scale)
    block = sorted(axis % len(x) for axis in axes)
    varies = [dim != 1 for dim in dims]
    if any(varies[axis] for axis in block) and any(not varies[axis] and x[axis] != 1 for axis in block):
        return "varies along some of the axes only"
    if any(varies[block[-1] + 1 :]):
        return "varies behind the axes"
    front = [axis for axis in range(block[0]) if varies[axis]]
    if front and any(not varies[axis] and x[axis] != 1 for axis in range(front[0], front[-1])):
        return "varies along two axes in front, and not along one between them"
    return None
