"""Two engines in turns; functions that sleep stand for them, because an engine runs on a GPU only."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from rms_deploy.engine import timing
from rms_deploy.onnx_model.file import load_model
from rms_deploy.onnx_model.optimization_profiles import resolve_profiles
from rms_deploy.runtime import tensorrt_session


@pytest.fixture
def loaded(monkeypatch):
    """The plans that are loaded, each with its options; a run of a plan sleeps that many milliseconds."""
    plans = []

    def session(plan, **options):
        plans.append((plan, options))
        return plan

    def bound_run(plan, feeds):
        assert {name: array.shape for name, array in feeds.items()} == {"X": (2, 64), "R": (2, 64)}
        return lambda: time.sleep(plan / 1000)

    monkeypatch.setattr(tensorrt_session, "session", session)
    monkeypatch.setattr(tensorrt_session, "bound_run", bound_run)
    monkeypatch.setattr(timing, "_WARMUP_SECONDS", 0)
    monkeypatch.setattr(timing, "_ROUND_SECONDS", 0)
    return plans


@pytest.mark.parametrize(("plugin", "decomposed", "verdict"), [(1, 5, "faster"), (5, 1, "slower")])
def test_the_faster_is_known(plugin, decomposed, verdict, loaded, small):
    model = load_model(small())
    (profile,) = resolve_profiles(model, ())
    api = SimpleNamespace(name="tensorrt")
    result = timing.time_engines(api, plugin, decomposed, model, profile, embedded=True)
    assert result.speedup.verdict == verdict
    assert len(result.plugin.round_medians) == len(result.decomposed.round_medians) == 20
    both = {"runtime": "tensorrt", "cuda_graph": True}
    assert loaded == [
        (plugin, {**both, "embedded_plugin": True}),
        (decomposed, {**both, "embedded_plugin": False}),
    ]
