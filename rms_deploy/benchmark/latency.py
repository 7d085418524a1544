"""Latencies of single runs, how much faster one candidate is than another, and what may be said of that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Literal

import numpy as np

from rms_deploy.benchmark.method import Method, percentile_name

__all__ = ["Latency", "Speedup", "Verdict", "median_interval"]


_CONFIDENCE: Final = 0.95


Verdict = Literal["faster", "slower", "within noise", "too few rounds"]


@dataclass(frozen=True)
class Latency:
    """Latencies of single runs, in microseconds."""

    runs: int
    median: float
    low: float | None
    high: float | None
    """`low` ... `high` holds the median of the rounds' medians with 95 % confidence; None: too few rounds."""
    minimum: float
    percentiles: Mapping[str, float]
    """By name, such as p99."""
    quantiles: tuple[float, ...]
    """The distribution: its 0, 1, ... 100 % quantiles."""
    round_medians: tuple[float, ...]
    """The median of each round, in order: a drift over the rounds shows here."""
    throughput: float | None = None
    """Runs in a second, of all clients together."""

    @classmethod
    def of(
        cls,
        rounds: Sequence[Sequence[float]],
        *,
        percentiles: Sequence[float] = Method.percentiles,
        seconds: float | None = None,
    ) -> Latency:
        """From the runs of each round; percentiles are over all runs, interpolated linearly.

        Args:
            rounds: microseconds of each run.
            percentiles: wanted, each from 0 to 100.
            seconds: that the rounds took together.
        """
        every = np.concatenate([np.asarray(runs, dtype=np.float64) for runs in rounds])
        medians = tuple(float(np.median(runs)) for runs in rounds)
        low, high = median_interval(medians) or (None, None)
        return cls(
            runs=every.size,
            median=float(np.median(every)),
            low=low,
            high=high,
            minimum=float(every.min()),
            percentiles={percentile_name(p): float(np.percentile(every, p)) for p in percentiles},
            quantiles=tuple(np.percentile(every, range(101)).tolist()),
            round_medians=medians,
            throughput=every.size / seconds if seconds else None,
        )


@dataclass(frozen=True)
class Speedup:
    """How many times faster than the first candidate: the median over the rounds of first / this, by round medians.

    Both candidates of a round ran within the same second or so, so that a slow phase of the machine hits both.
    """

    value: float
    low: float | None
    high: float | None
    """`low` ... `high` holds the true median with 95 % confidence, as `median_interval` says; None: too few rounds."""

    @classmethod
    def of(cls, first: Latency, this: Latency) -> Speedup:
        """From the rounds of two candidates, which must be equally many."""
        ratios = [a / b for a, b in zip(first.round_medians, this.round_medians, strict=True)]
        low, high = median_interval(ratios) or (None, None)
        return cls(value=median(ratios), low=low, high=high)

    @property
    def verdict(self) -> Verdict:
        """Faster or slower only if the whole interval is on one side of 1."""
        if self.low is None or self.high is None:
            return "too few rounds"
        return "faster" if self.low > 1 else "slower" if self.high < 1 else "within noise"


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """An interval that holds the true median with at least 95 % confidence; None of fewer than 6 values.

    The sign test: of n independent values, the number below the true median is binomial(n, 1/2), whatever their
    distribution. So the k-th smallest and the k-th largest enclose it but for 2 P(binomial < k). Of 6 to 8 values that
    takes all, of 10 it leaves out one at each end. All of 5 values would miss it once in 16 times.
    """
    ordered = sorted(values)
    n = len(ordered)
    k, outside = 0, 2.0 / 2**n
    while outside <= 1 - _CONFIDENCE and 2 * (k + 1) <= n:
        k += 1
        outside += 2 * math.comb(n, k) / 2**n
    return (ordered[k - 1], ordered[n - k]) if k else None
