"""Latencies of single runs, how much faster one candidate is than another, and what may be said of that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Final, Literal

import numpy as np

from rms_deploy.benchmark.method import MIN_LAUNCHES, Method, percentile_name

__all__ = ["Latency", "Speedup", "Verdict", "ratio_interval"]


# fmt: off
_T: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)
# fmt: on
"""The 97.5 % quantiles of Student's t distribution with 1, 2, ... 30 degrees of freedom, rounded as in every table."""


Verdict = Literal["faster", "slower", "within noise", "too few launches"]


@dataclass(frozen=True)
class Latency:
    """Latencies of single runs, in microseconds."""

    runs: int
    median: float
    """Of all runs."""
    low: float | None
    high: float | None
    """`low` ... `high` holds the median latency of a launch, averaged over all possible launches, with 95 % confidence,
    as `ratio_interval` says; None: too few launches."""
    minimum: float
    percentiles: Mapping[str, float]
    """By name, such as p99."""
    quantiles: tuple[float, ...]
    """The distribution: its 0, 1, ... 100 % quantiles."""
    round_medians: tuple[tuple[float, ...], ...]
    """Of each launch, the median of each of its rounds, in order: a drift over the rounds shows here."""
    throughput: float | None = None
    """Runs in a second, of all clients together."""

    @classmethod
    def of(
        cls,
        launches: Sequence[Sequence[Sequence[float]]],
        *,
        percentiles: Sequence[float] = Method.percentiles,
        seconds: float | None = None,
    ) -> Latency:
        """From the runs of each round of each launch; percentiles are over all runs, interpolated linearly.

        Args:
            launches: microseconds of each run.
            percentiles: wanted, each from 0 to 100.
            seconds: that the rounds took together.
        """
        every = np.concatenate([np.asarray(runs, dtype=np.float64) for rounds in launches for runs in rounds])
        medians = tuple(tuple(float(np.median(runs)) for runs in rounds) for rounds in launches)
        low, high = ratio_interval([median(rounds) for rounds in medians]) or (None, None)
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
    """How many times faster than the first candidate.

    A launch gives one ratio: the median over its rounds of first / this, by the rounds' medians. Both candidates of a
    round ran within the same second or so, so that a slow phase of the machine hits both. The value is the geometric
    mean of the launches' ratios.
    """

    value: float
    low: float | None
    high: float | None
    """`low` ... `high` holds the ratio, averaged over all possible launches, with 95 % confidence, as `ratio_interval`
    says; None: too few launches."""
    noise: float | None = None
    """From 1 on: so many times two equal candidates, the A/A pair, may differ here. None: no such pair was measured."""

    @classmethod
    def of(cls, first: Latency, this: Latency, *, noise: float | None = None) -> Speedup:
        """From two candidates that had the same launches and rounds."""
        pairs = zip(first.round_medians, this.round_medians, strict=True)
        ratios = [median(a / b for a, b in zip(*rounds, strict=True)) for rounds in pairs]
        low, high = ratio_interval(ratios) or (None, None)
        return cls(value=_geometric_mean(ratios), low=low, high=high, noise=noise)

    @property
    def spread(self) -> float | None:
        """The farther end of the interval from 1, as a ratio from 1 on."""
        return None if self.low is None or self.high is None else max(self.high, 1 / self.low)

    @property
    def verdict(self) -> Verdict:
        """Faster or slower only if the whole interval is on one side of 1, and the ratio beyond that of an A/A pair."""
        if self.low is None or self.high is None:
            return "too few launches"
        noise = self.noise or 1.0
        if self.low > 1 and self.value > noise:
            return "faster"
        return "slower" if self.high < 1 and self.value < 1 / noise else "within noise"


def ratio_interval(launches: Sequence[float]) -> tuple[float, float] | None:
    """Student's 95 % interval of the geometric mean of positive values, one of each launch; None of fewer than 3.

        exp(m - t s / sqrt(n)) ... exp(m + t s / sqrt(n))

    m and s are mean and standard deviation of the n logarithms, t is the 97.5 % quantile with n - 1 degrees of freedom.
    Few launches make it wide: t is 4.3 for 3 launches, 2.8 for 5 and 2.3 for 10.
    """
    n = len(launches)
    if n < MIN_LAUNCHES:
        return None
    logarithms = [math.log(value) for value in launches]
    half = _T[min(n - 1, len(_T)) - 1] * stdev(logarithms) / math.sqrt(n)
    middle = fmean(logarithms)
    return math.exp(middle - half), math.exp(middle + half)


def _geometric_mean(values: Sequence[float]) -> float:
    return math.exp(fmean(map(math.log, values)))
