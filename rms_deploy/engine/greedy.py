"""Which kinds of norms an engine is faster with as plugins: a search that builds few engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["greedy"]

_Kind = TypeVar("_Kind")


def greedy(
    kinds: Sequence[_Kind],
    is_faster: Callable[[frozenset[_Kind], frozenset[_Kind]], bool],
    *,
    goes_on: Callable[[], bool] = lambda: True,
) -> frozenset[_Kind]:
    """The kinds that become plugins.

    A plugin may win in one place and lose in another, where the runtime fuses a norm with its neighbours.

    1. All kinds, if an engine with all of them is faster than one with none; else none.
    2. From there each kind in turn is changed, and stays changed if the engine is faster so.

    Args:
        kinds: in the order in which they are tried.
        is_faster: whether an engine with the first kinds as plugins is faster than one with the second.
        goes_on: is asked before another engine is tried; False ends the search with the best so far.
    """
    every, none = frozenset(kinds), frozenset[_Kind]()
    best = every if is_faster(every, none) else none
    tried = {every, none}
    for kind in kinds:
        candidate = best ^ {kind}
        if candidate in tried:
            continue
        if not goes_on():
            break
        tried.add(candidate)
        if is_faster(candidate, best):
            best = candidate
    return best
