"""What a benchmark measured, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

import numpy as np

from rms_deploy.machine import Machine

__all__ = ["BenchmarkResult", "Candidate", "Latency", "Speedup", "median_interval"]

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Latency:
    """Latencies of single runs, in microseconds."""

    runs: int
    median: float
    p10: float
    p90: float
    p99: float
    minimum: float
    round_medians: tuple[float, ...]
    """The median of each round, in order: a drift over the rounds shows here."""

    @classmethod
    def of(cls, rounds: Sequence[Sequence[float]]) -> Latency:
        """From the runs of each round; percentiles are over all runs, interpolated linearly."""
        every = np.concatenate([np.asarray(runs, dtype=np.float64) for runs in rounds])
        p10, p50, p90, p99 = (float(p) for p in np.percentile(every, [10, 50, 90, 99]))
        return cls(
            runs=every.size,
            median=p50,
            p10=p10,
            p90=p90,
            p99=p99,
            minimum=float(every.min()),
            round_medians=tuple(float(np.median(runs)) for runs in rounds),
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
    def verdict(self) -> Literal["faster", "slower", "within noise", "too few rounds"]:
        """Faster or slower only if the whole interval is on one side of 1."""
        if self.low is None or self.high is None:
            return "too few rounds"
        return "faster" if self.low > 1 else "slower" if self.high < 1 else "within noise"


@dataclass(frozen=True)
class Candidate:
    """One model in the benchmark: its latency, or why there is none."""

    model: str
    library: bool = True
    """Whether our custom-op library was registered; without it, ONNX Runtime's own kernels run our norms."""
    failure: str | None = None
    latency: Latency | None = None
    load_seconds: float | None = None
    first_run_seconds: float | None = None
    speedup: Speedup | None = None
    """None for the first candidate, and where this or the first failed."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        result = asdict(self)
        if self.speedup is not None:
            result["speedup"]["verdict"] = self.speedup.verdict
        return result


@dataclass(frozen=True)
class BenchmarkResult:
    """The result of `bench`, with all that is needed to run it again."""

    candidates: tuple[Candidate, ...]
    shapes: Mapping[str, tuple[int, ...]]
    threads: int
    rounds: int
    seconds: float
    warmup: float
    seed: int
    library: bool
    machine: Machine
    versions: Mapping[str, str]
    date: str
    command: str

    @property
    def failed(self) -> bool:
        """Whether a candidate has no latency."""
        return any(candidate.failure is not None for candidate in self.candidates)

    def to_dict(self) -> dict[str, Any]:
        """For JSON. Latencies are in microseconds."""
        return {
            **asdict(self),
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "failed": self.failed,
        }


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
