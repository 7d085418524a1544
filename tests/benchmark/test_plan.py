"""Slow models get fewer and longer rounds, and a limit of time is kept by measuring less."""

from __future__ import annotations

import pytest

from rms_deploy.benchmark.method import Method
from rms_deploy.benchmark.plan import Plan


def plan(method, *, run_seconds=0.001, load_seconds=1.0, candidates=2, seconds_left=None):
    return Plan.of(
        method, run_seconds=run_seconds, load_seconds=load_seconds, candidates=candidates, seconds_left=seconds_left
    )


def test_a_quick_model_is_measured_as_asked_for():
    assert plan(Method(launches=5, rounds=4, duration=2.0)) == Plan(5, 4, 0.1, 1)


@pytest.mark.parametrize(
    ("run_seconds", "launches", "rounds"),
    [
        (0.05, 5, 4),  # not slow
        (0.06, 5, 2),  # 0.4 s in a launch: two rounds of three runs
        (0.1, 5, 1),
        (0.5, 4, 1),
        (30.0, 3, 1),  # never fewer launches than an interval takes
    ],
)
def test_a_slow_model_gets_fewer_rounds_then_fewer_launches(run_seconds, launches, rounds):
    found = plan(Method(launches=5, rounds=4, duration=2.0), run_seconds=run_seconds)
    assert (found.launches, found.rounds) == (launches, rounds)
    assert found.seconds * launches * rounds == pytest.approx(2.0)


def test_never_more_launches_than_asked_for():
    assert plan(Method(launches=2, rounds=4), run_seconds=30.0).launches == 2


@pytest.mark.parametrize(("iterations", "runs"), [(0, 1), (20, 1), (21, 2), (1000, 50)])
def test_iterations_are_shared_out(iterations, runs):
    assert plan(Method(launches=5, rounds=4, iterations=iterations)).runs == runs


def test_a_limit_leaves_less_to_measure():
    """Of 14 s, 4 launches after the first take 1 s each to load; 10 s are left for two candidates."""
    assert plan(Method(duration=100.0), seconds_left=14.0).seconds == pytest.approx(5.0 / 20)
    assert plan(Method(duration=0.5), seconds_left=14.0).seconds == pytest.approx(0.5 / 20)


@pytest.mark.parametrize(("seconds_left", "launches"), [(1000.0, 5), (70.0, 4), (30.0, 3), (-5.0, 3)])
def test_a_limit_leaves_fewer_launches_where_loading_takes_long(seconds_left, launches):
    found = plan(Method(), load_seconds=10.0, run_seconds=0.01, seconds_left=seconds_left)
    assert found.launches == launches
    assert found.seconds >= 0
