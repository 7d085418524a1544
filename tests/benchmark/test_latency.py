"""Statistics on samples whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rms_deploy.benchmark.latency import Latency, Speedup, median_interval


def latency(*round_medians: float) -> Latency:
    return Latency.of([[value] for value in round_medians])


def test_percentiles_are_over_all_runs_of_all_rounds():
    result = Latency.of([list(range(1, 51)), list(range(51, 102))])
    assert result.runs == 101
    assert (result.minimum, result.median, result.percentiles) == (1, 51, {"p90": 91, "p99": 100})
    assert result.quantiles == pytest.approx(range(1, 102))
    assert result.round_medians == (25.5, 76)


def test_percentiles_are_interpolated():
    result = Latency.of([[10.0], [20.0]], percentiles=(10, 99.9), seconds=0.5)
    assert (result.percentiles["p10"], result.median, result.percentiles["p99.9"]) == pytest.approx((11, 15, 19.99))
    assert result.throughput == 4
    assert (result.low, result.high) == (None, None)
    assert Latency.of([[v] for v in (6, 1, 2, 3, 4, 5)]).low == 1


def test_a_speedup_is_taken_round_by_round():
    """A machine that becomes 10 times slower half way leaves the ratio as it is."""
    speedup = Speedup.of(latency(3, 3, 3, 30, 30, 30), latency(1, 1, 1, 10, 10, 10))
    assert (speedup.value, speedup.low, speedup.high, speedup.verdict) == (3, 3, 3, "faster")


@pytest.mark.parametrize(
    ("this", "verdict"),
    [
        ((1, 1, 1, 1, 1, 1), "within noise"),
        ((0.9, 0.8, 0.9, 0.8, 0.9, 0.99), "faster"),
        ((1.1, 1.2, 1.1, 1.2, 1.1, 1.01), "slower"),
        ((0.9, 0.8, 0.9, 0.8, 0.9, 1.01), "within noise"),
        ((0.5,), "too few rounds"),
        ((0.5, 0.5, 0.5, 0.5, 0.5), "too few rounds"),
    ],
)
def test_faster_and_slower_are_said_only_when_the_whole_interval_says_so(this, verdict):
    assert Speedup.of(latency(*[1.0] * len(this)), latency(*this)).verdict == verdict


@pytest.mark.parametrize(("n", "left_out"), [(6, 0), (8, 0), (9, 1), (10, 1), (12, 2), (20, 5)])
def test_the_interval_is_that_of_the_sign_test(n, left_out):
    """The number of order statistics left out at each end is that of the usual tables, at 95 %."""
    assert median_interval(range(n)) == (left_out, n - 1 - left_out)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_too_few_values_have_no_interval(n):
    """All of 5 values enclose the median 15 times in 16 only: 94 %."""
    assert median_interval(range(n)) is None
    speedup = Speedup.of(latency(*[1.0] * n), latency(*[0.1] * n))
    assert (speedup.low, speedup.high) == (None, None)
    assert speedup.value == 10


def test_the_interval_holds_the_true_median_as_often_as_it_says():
    rng = np.random.default_rng(0)
    trials = [median_interval(rng.exponential(size=10).tolist()) for _ in range(4000)]
    held = np.mean([low <= math.log(2) <= high for low, high in trials])
    # Exactly 1 - 2 (1 + 10) / 1024 = 0.979; 4000 trials have a deviation of 0.0023.
    assert abs(held - 0.979) < 4 * 0.0023
