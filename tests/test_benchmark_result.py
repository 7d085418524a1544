"""Statistics on samples whose answers are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from rms_deploy.benchmark_result import BenchmarkResult, Candidate, Latency, Speedup, median_interval
from rms_deploy.machine import Machine


def latency(*round_medians: float) -> Latency:
    return Latency.of([[value] for value in round_medians])


def test_percentiles_are_over_all_runs_of_all_rounds():
    result = Latency.of([list(range(1, 51)), list(range(51, 102))])
    assert result.runs == 101
    assert (result.minimum, result.p10, result.median, result.p90, result.p99) == (1, 11, 51, 91, 100)
    assert result.round_medians == (25.5, 76)


def test_percentiles_are_interpolated():
    result = Latency.of([[10.0], [20.0]])
    assert (result.p10, result.median, result.p90) == pytest.approx((11, 15, 19))


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


def test_the_result_is_json_with_the_failures_in_it():
    result = BenchmarkResult(
        candidates=(
            Candidate("a.onnx", latency=latency(2, 2), load_seconds=0.5, first_run_seconds=0.1),
            Candidate("b.onnx", latency=latency(1, 1), speedup=Speedup(2.0, 1.5, 2.5)),
            Candidate("c.onnx", failure="killed"),
        ),
        shapes={"x": (1, 2)},
        threads=1,
        rounds=2,
        seconds=1.0,
        warmup=0.0,
        seed=0,
        library=True,
        machine=Machine("cpu", 2, 2, "system", 0.0),
        versions={"python": "3"},
        date="2026-01-01T00:00:00+00:00",
        command="rms-deploy bench a.onnx b.onnx c.onnx",
    )
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert result.failed
    assert data["failed"]
    assert [c["failure"] for c in data["candidates"]] == [None, None, "killed"]
    assert data["candidates"][0]["latency"]["median"] == 2
    assert data["candidates"][1]["speedup"] == {"value": 2.0, "low": 1.5, "high": 2.5, "verdict": "faster"}
    assert data["shapes"] == {"x": [1, 2]}
    assert data["machine"]["cpu"] == "cpu"
