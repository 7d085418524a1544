"""How the seconds of a benchmark are divided into launches and rounds: a slow model gets fewer, longer rounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from rms_deploy.benchmark.method import MIN_LAUNCHES, Method
from rms_deploy.benchmark.timing import SLOW_RUN

__all__ = ["Plan"]

_RUNS: Final = 3
"""A round of a slow model holds so many runs at least, where there are several rounds."""


@dataclass(frozen=True)
class Plan:
    """What is measured of each candidate."""

    launches: int
    rounds: int
    """In each launch."""
    seconds: float
    """Of a round."""
    runs: int
    """In a round, at least."""

    @classmethod
    def of(
        cls, method: Method, *, run_seconds: float, load_seconds: float, candidates: int, seconds_left: float | None
    ) -> Plan:
        """As the method asks, unless a run takes longer than `SLOW_RUN`, or the time does not suffice for that.

        Args:
            method: what was asked for.
            run_seconds: of one run of the slowest candidate.
            load_seconds: from the begin of a launch to its first round.
            candidates: that take turns.
            seconds_left: after the first launch was loaded; None: no limit.
        """
        launches, rounds, duration = method.launches, method.rounds, method.duration
        fewest = min(MIN_LAUNCHES, launches)
        if seconds_left is not None:
            fitting = 1 + int(seconds_left / (2 * load_seconds + candidates * run_seconds))
            launches = _clamped(fitting, fewest, launches)
            duration = min(duration, max(0.0, seconds_left - (launches - 1) * load_seconds) / candidates)
        if run_seconds > SLOW_RUN:
            launches = _clamped(int(duration / run_seconds), fewest, launches)
            rounds = _clamped(int(duration / launches / (_RUNS * run_seconds)), 1, rounds)
        count = launches * rounds
        return cls(launches, rounds, duration / count, max(1, math.ceil(method.iterations / count)))


def _clamped(value: int, least: int, most: int) -> int:
    return max(least, min(value, most))
