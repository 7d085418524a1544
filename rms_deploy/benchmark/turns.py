"""Candidates take turns, so that a slow phase of the machine hits all of them alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import sleep
from typing import Final, TypeVar

__all__ = ["turns"]

_Candidate = TypeVar("_Candidate")

_SETTLE_SECONDS: Final = 0.1
"""Pause before another process runs: ONNX Runtime's threads look for work that long before they sleep."""


def turns(candidates: Sequence[_Candidate], rounds: int, *, threads: int = 1) -> Iterator[tuple[int, _Candidate]]:
    """The number of the round, from 0, and whose turn it is: each candidate once in a round, another first in each.

    Args:
        candidates: who takes part. One that is removed from the list takes no part in the rounds that follow.
        rounds: how many.
        threads: that a candidate works with. Of several, some still look for work when the turn ends: a pause before
            the next turn lets them fall asleep.
    """
    for number in range(rounds):
        present = list(candidates)
        first = number % max(1, len(present))
        for candidate in present[first:] + present[:first]:
            if threads > 1:
                sleep(_SETTLE_SECONDS)
            yield number, candidate
