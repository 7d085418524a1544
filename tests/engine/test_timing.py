"""Two engines are timed one after the other on the same inputs; no GPU is needed to see that."""

from __future__ import annotations

import weakref
from types import SimpleNamespace

import numpy as np
import pytest

from rms_deploy.engine import timing
from rms_deploy.engine.timing import TimedPlan
from rms_deploy.runtime import tensorrt_session

API = SimpleNamespace(name="tensorrt")
FEEDS = {"x": np.ones((3, 8), np.float32)}
FAST, SLOW = TimedPlan("fast", embeds_plugin=True, holds_runtime=False), TimedPlan("slow", False, False)


class Session:
    """One engine in the memory of the GPU."""

    def __init__(self, plan, cuda_graph):
        self.plan, self.cuda_graph = plan, cuda_graph


@pytest.fixture
def gpu(monkeypatch):
    """Loads engines and runs them; `no_graph` are those that cannot be captured."""
    seen = SimpleNamespace(loaded=[], options=[], no_graph=(), live=weakref.WeakSet())

    def session(plan, *, cuda_graph, **options):
        assert not seen.live, "another engine is still loaded"
        seen.loaded.append((plan, cuda_graph))
        seen.options.append(options)
        made = Session(plan, cuda_graph)
        seen.live.add(made)
        return made

    def bound_run(made, feeds):
        assert feeds is FEEDS
        return SimpleNamespace(session=made, cuda_graph=made.cuda_graph and made.plan not in seen.no_graph)

    def measure(run, seconds):
        assert seconds > 0
        return [{"fast": 10.0, "slow": 20.0}[run.session.plan]]

    monkeypatch.setattr(tensorrt_session, "session", session)
    monkeypatch.setattr(tensorrt_session, "bound_run", bound_run)
    monkeypatch.setattr(timing, "measure", measure)
    return seen


def test_each_is_loaded_anew_and_alone_in_each_launch(gpu):
    times = timing.time_engines(API, FAST, SLOW, FEEDS)
    assert (times.candidate.median, times.other.median, times.cuda_graph) == (10, 20, True)
    assert gpu.loaded[:4] == [("fast", True), ("slow", True), ("slow", True), ("fast", True)]
    assert len(gpu.loaded) == 2 * timing._LAUNCHES
    assert len(times.candidate.round_medians) == len(times.other.round_medians) == timing._LAUNCHES


def test_both_run_without_a_graph_where_one_cannot_be_captured(gpu):
    gpu.no_graph = ("slow",)
    assert not timing.time_engines(API, FAST, SLOW, FEEDS).cuda_graph
    assert [graph for _, graph in gpu.loaded] == [True, True, *[False] * 2 * timing._LAUNCHES]


def test_an_engine_may_run_the_code_that_it_holds_and_no_other(gpu):
    timing.time_engines(API, FAST, SLOW._replace(holds_runtime=True), FEEDS)
    assert gpu.options[0] == {"runtime": "tensorrt", "embedded_plugin": True, "holds_runtime": False}
    assert gpu.options[1] == {"runtime": "tensorrt", "embedded_plugin": False, "holds_runtime": True}
