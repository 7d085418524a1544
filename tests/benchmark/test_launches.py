"""Launches start and end processes, in another order each, and end when the time is over; no process is needed."""

from __future__ import annotations

import pytest

from rms_deploy.benchmark import launches as module
from rms_deploy.benchmark.launches import measure_launches
from rms_deploy.benchmark.method import Method
from rms_deploy.benchmark.progress import Progress


class Run:
    """A candidate that moves a clock."""

    failure = None

    def __init__(self, name, log, clock, *, load=1.0, run_seconds=0.001, fails=""):
        self.fails = name in fails
        self.name, self.log, self.clock, self.load_seconds, self.run_seconds = name, log, clock, load, run_seconds

    def start(self, _process):
        self.log.append(("start", self.name))

    def load(self, inputs):
        assert inputs == f"inputs of {self.name}"
        self.log.append(("load", self.name))
        self.clock[0] += self.load_seconds
        self.failure = "refused" if self.fails else None

    def measure(self, seconds, runs):
        self.log.append(("measure", self.name, runs))
        self.clock[0] += max(seconds, runs * self.run_seconds)

    def finish(self):
        self.log.append(("finish", self.name))


@pytest.fixture
def measured(monkeypatch):
    def run(method, *, end=None, **options):
        log, clock, closed, said = [], [0.0], [], []

        class Process:
            def __init__(self, _timeout):
                pass

            def close(self):
                closed.append(self)

        monkeypatch.setattr(module, "BenchmarkProcess", Process)
        monkeypatch.setattr(module, "perf_counter", lambda: clock[0])
        runs = [Run(name, log, clock, **options) for name in "ab"]
        progress = Progress(1, lambda *step: said.append(step))
        progress.begin()
        measure_launches(runs, ["inputs of a", "inputs of b"], method, progress, end=end)
        assert len(closed) == sum(what[0] == "start" for what in log)
        return log, clock[0], said

    return run


def names(log, what):
    return "".join(entry[1] for entry in log if entry[0] == what)


def test_every_launch_loads_all_and_another_begins(measured):
    log, _, said = measured(Method(launches=3, rounds=2, duration=0.6))
    assert names(log, "start") == names(log, "load") == names(log, "finish") == "abbaab"
    assert names(log, "measure") == "abba" + "baab" + "abba"
    assert said[-1] == (17, 18, "launch 3 of 3, round 2 of 2")


def test_a_slow_model_takes_little_more_than_the_duration(measured):
    log, seconds, said = measured(Method(launches=5, rounds=4, duration=2.0), run_seconds=1.0)
    assert names(log, "measure") == "abbaab", "3 launches of one round of one run"
    assert seconds == 3 * 2 * (1.0 + 1.0)
    assert said[-1] == (11, 12, "launch 3 of 3, round 1 of 1")


def test_no_launch_begins_that_would_end_too_late(measured):
    log, seconds, _ = measured(Method(launches=5, rounds=2, duration=5.0), end=7.0, load=3.0)
    assert names(log, "load") == "ab"
    assert seconds < 7.0 + 3.0
    log, seconds, _ = measured(Method(launches=5, rounds=2, duration=5.0), end=20.0, load=1.0)
    assert len(names(log, "load")) >= 2 * 3
    assert seconds <= 20.0


def test_the_first_round_is_measured_even_if_the_time_is_over(measured):
    log, _, _ = measured(Method(launches=3, rounds=4, duration=1.0), end=1.0, load=3.0)
    assert names(log, "measure") == "ab"


def test_one_that_fails_is_not_started_again_and_the_others_are(measured):
    log, _, _ = measured(Method(launches=3, rounds=1, duration=0.1), fails="b")
    assert names(log, "start") == "abaa"
    log, _, _ = measured(Method(launches=3, rounds=1, duration=0.1), fails="ab")
    assert names(log, "start") == "ab"
