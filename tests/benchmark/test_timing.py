"""Runs are counted, and drifts are told from noise; nothing here depends on how fast anything is."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from rms_deploy.benchmark import timing
from rms_deploy.benchmark.timing import drifts, measure, measure_clients, warm_up


def test_each_run_is_counted_but_the_first():
    calls = []
    latencies = measure(lambda: calls.append(None), seconds=0.001)
    assert len(calls) == len(latencies) + 1
    assert len(measure(lambda: None, seconds=0)) == 1


def test_as_many_runs_as_asked_for_even_if_it_takes_longer():
    assert len(measure(lambda: None, 0, runs=7)) == 7
    latencies, _ = measure_clients(lambda: None, 0, 3, runs=7)
    assert len(latencies) == 9, "3 of each"


@pytest.mark.parametrize(
    ("takes", "seconds", "runs", "calls"),
    [
        (2.0, 1.0, 1, 1),
        (2.0, 1.0, 3, 3),
        (2.0, 3.0, 1, 3),  # the first, which does not count, and two of two seconds each
        (0.02, 0.01, 1, 2),  # longer than asked for, and not slow
    ],
)
def test_a_slow_run_that_fills_the_time_counts_from_the_first(monkeypatch, takes, seconds, runs, calls):
    now, called = [0.0], []
    monkeypatch.setattr(timing, "perf_counter", lambda: now[0])
    monkeypatch.setattr(timing, "perf_counter_ns", lambda: round(now[0] * 1e9))

    def run():
        called.append(None)
        now[0] += takes

    measure(run, seconds, runs)
    assert len(called) == calls


@pytest.mark.parametrize("clients", [1, 3])
def test_every_client_counts_its_runs(clients):
    calls = []
    latencies, seconds = measure_clients(lambda: calls.append(None), 0, clients)
    assert len(latencies) == clients
    assert len(calls) == 2 * clients
    assert seconds > 0


def test_clients_call_at_the_same_time():
    """Each run ends only when all clients are in one."""
    from threading import Barrier

    together = Barrier(3, timeout=60)
    latencies, _ = measure_clients(together.wait, 0, 3)
    assert len(latencies) == 3


def test_a_drift_shows_in_the_order():
    assert drifts([8, 7, 6, 5, 4, 3, 2, 1])
    assert drifts([1, 2, 3, 4, 5, 6, 7, 8])
    assert drifts([9, 8, 1, 9, 2, 9, 1, 1]), "one value of each half may lie elsewhere"
    assert not drifts([5, 5, 5, 5, 5, 5, 5, 5])
    assert not drifts([5, 6, 5, 6, 5, 6, 5, 6])


def test_a_drift_is_seen_in_as_many_orders_as_the_docstring_says():
    def dealt(early):
        late = [i for i in range(8) if i not in early]
        return [*early, *late]

    assert sum(drifts(dealt(early)) for early in combinations(range(8), 4)) == 34


def test_noise_around_a_slope_that_is_large_is_a_drift():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (200, 8))
    still = np.mean([drifts(row) for row in noise])
    falling = np.mean([drifts(row) for row in noise - 2 * np.arange(8)])
    assert still < 0.65  # 34 / 70, and three deviations of 200 trials
    assert falling > 0.95


def scripted(monkeypatch, medians):
    """Batches have these medians, and a clock that only they move."""
    values, now = iter(medians), [0.0]

    def batch(_run, seconds, _clients):
        now[0] += seconds
        return [next(values)], seconds

    monkeypatch.setattr(timing, "measure_clients", batch)
    monkeypatch.setattr(timing, "perf_counter", lambda: now[0])
    return now


def test_the_warm_up_ends_when_the_latency_drifts_no_more(monkeypatch):
    now = scripted(monkeypatch, [20, 19, 18, 17, 16, 15, 14, 13, *[5, 6] * 20])
    settled, seconds = warm_up(lambda: None, 50.0)
    assert 12 <= now[0] <= 16
    assert settled
    assert seconds in (5e-6, 6e-6)


def test_the_warm_up_ends_after_its_time(monkeypatch):
    now = scripted(monkeypatch, range(1000, 0, -1))
    settled, seconds = warm_up(lambda: None, 50.0)
    assert not settled
    assert seconds == pytest.approx(950e-6, abs=2e-6)
    assert now[0] == pytest.approx(50, abs=1)


def test_no_warm_up():
    assert warm_up(lambda: pytest.fail("ran"), 0.0) == (False, None)
