"""Statistics on samples whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rms_deploy.benchmark.latency import _T, Latency, Speedup, ratio_interval


def latency(*launches: float) -> Latency:
    """Of launches of one round each."""
    return Latency.of([[[value]] for value in launches])


def test_percentiles_are_over_all_runs_of_all_rounds():
    result = Latency.of([[list(range(1, 51))], [list(range(51, 102))]])
    assert result.runs == 101
    assert (result.minimum, result.median, result.percentiles) == (1, 51, {"p90": 91, "p99": 100})
    assert result.quantiles == pytest.approx(range(1, 102))
    assert result.round_medians == ((25.5,), (76,))


def test_percentiles_are_interpolated():
    result = Latency.of([[[10.0], [20.0]]], percentiles=(10, 99.9), seconds=0.5)
    assert (result.percentiles["p10"], result.median, result.percentiles["p99.9"]) == pytest.approx((11, 15, 19.99))
    assert result.throughput == 4
    assert result.round_medians == ((10.0, 20.0),)
    assert (result.low, result.high) == (None, None)


def test_the_interval_is_that_of_the_launches():
    """However many rounds there are, two launches tell nothing; of a launch the median round counts."""
    assert Latency.of([[[1.0]] * 50, [[2.0]] * 50]).low is None
    with_an_outlier = Latency.of([[[9.0], [value], [1.0]] for value in (2.0, 4.0, 8.0)])
    assert (with_an_outlier.low, with_an_outlier.high) == ratio_interval([2, 4, 8])


def test_a_speedup_is_taken_round_by_round():
    """A machine that becomes 10 times slower half way through each launch leaves the ratio as it is."""
    first, this = Latency.of([[[3.0], [30.0]]] * 3), Latency.of([[[1.0], [10.0]]] * 3)
    speedup = Speedup.of(first, this)
    assert (speedup.value, speedup.low, speedup.high) == pytest.approx((3, 3, 3))
    assert speedup.verdict == "faster"


def test_a_speedup_is_the_geometric_mean_of_the_launches():
    speedup = Speedup.of(latency(1, 1, 1), latency(1, 0.5, 0.25))
    assert speedup.value == pytest.approx(2)
    assert (speedup.low, speedup.high) == ratio_interval([1, 2, 4])
    assert speedup.spread == max(speedup.high, 1 / speedup.low)


@pytest.mark.parametrize(
    ("this", "noise", "verdict"),
    [
        ((1, 1, 1, 1, 1, 1), None, "within noise"),
        ((0.9, 0.89, 0.91), None, "faster"),
        ((0.9, 0.89, 0.91), 1.1, "faster"),
        ((0.9, 0.89, 0.91), 1.12, "within noise"),
        ((1.1, 1.11, 1.09), None, "slower"),
        ((1.1, 1.11, 1.09), 1.09, "slower"),
        ((1.1, 1.11, 1.09), 1.11, "within noise"),
        ((0.9, 0.8, 0.9, 0.8, 0.9, 1.3), None, "within noise"),
        ((0.5,), None, "too few launches"),
        ((0.5, 0.5), None, "too few launches"),
    ],
)
def test_a_winner_is_named_only_beyond_the_interval_and_the_noise(this, noise, verdict):
    assert Speedup.of(latency(*[1.0] * len(this)), latency(*this), noise=noise).verdict == verdict


def test_the_interval_is_students():
    """log2 of 1, 2 and 4 is 0, 1 and 2: mean 1, deviation 1; t is 4.303 with 2 degrees of freedom."""
    half = 4.303 / math.sqrt(3)
    assert ratio_interval([1, 2, 4]) == pytest.approx((2 ** (1 - half), 2 ** (1 + half)))


def test_the_quantiles_of_t_are_those_of_the_distribution():
    """Of 200,000 samples 2.5 % lie beyond each, with a deviation of 0.035 %."""
    rng = np.random.default_rng(0)
    assert list(_T) == sorted(_T, reverse=True)
    for freedom in (1, 2, 4, 9, 30):
        beyond = np.mean(rng.standard_t(freedom, 200_000) > _T[freedom - 1])
        assert abs(beyond - 0.025) < 4 * 0.00035


def test_more_launches_than_the_table_has():
    assert ratio_interval([1.0, 2.0] * 40)[0] > ratio_interval([1.0, 2.0] * 8)[0]


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_launches_have_no_interval(n):
    assert ratio_interval([1.0] * n) is None
    speedup = Speedup.of(latency(*[1.0] * n), latency(*[0.1] * n))
    assert (speedup.low, speedup.high, speedup.spread) == (None, None, None)
    assert speedup.value == pytest.approx(10)


def test_a_winner_among_equals_is_rarer_than_one_in_twenty():
    """5 launches whose speeds differ by 3 %, of two equal candidates and the second copy of the first."""
    rng = np.random.default_rng(0)
    named = []
    for first, again, other in np.exp(0.03 * rng.standard_normal((2000, 3, 5))):
        noise = Speedup.of(latency(*first), latency(*again)).spread
        named.append(Speedup.of(latency(*first), latency(*other), noise=noise).verdict in ("faster", "slower"))
    assert np.mean(named) < 0.03
