"""Which engine is kept, why, and the proof that its norms are what was asked for."""

from __future__ import annotations

import json

import pytest

import rms_deploy
from rms_deploy.benchmark.latency import Latency, Speedup
from rms_deploy.engine import choice
from rms_deploy.engine.builder import BuildOptions
from rms_deploy.engine.choice import BuiltEngine, EngineRequest
from rms_deploy.engine.parser_input import FusedNorm, with_plugin_norms
from rms_deploy.engine.progress import BuildProgress
from rms_deploy.engine.record import EngineNorm, NormTiming
from rms_deploy.engine.source_model import source_model
from rms_deploy.errors import EngineError
from rms_deploy.runtime.gpus import Gpu
from rms_deploy.runtime.tensorrt_plugin import load_plugins


def test_auto_without_a_gpu_says_that_it_cannot_time(small, sm120, tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "gpus", tuple)
    monkeypatch.setattr(choice, "gpu_problem", lambda: "there is no driver")
    record = rms_deploy.build(small(), tmp_path / "e.engine", **sm120)
    assert (record.norm, record.timing) == ("decomposed", None)
    assert record.reason == "both are timed on a GPU, and there is no driver, so the decomposed norms were taken"


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("decomposed", "kept"), [(12.0, "plugin"), (8.0, "decomposed"), (10.0, "decomposed")])
def test_auto_keeps_the_faster(decomposed, kept, small, sm120, tmp_path, monkeypatch):
    """The choice alone: what is timed here are not engines."""
    ours, theirs = (Latency.of([[[time]] * 4] * 5) for time in (10.0, decomposed))
    timing = NormTiming(ours, theirs, Speedup.of(theirs, ours))
    monkeypatch.setattr(choice, "gpus", lambda: (Gpu("a GPU", "sm120", 1, "1"),))
    monkeypatch.setattr(choice, "time_engines", lambda *_args, **_options: timing)
    record = rms_deploy.build(small(), tmp_path / "e.engine", **sm120)
    assert (record.norm, record.plugin_count) == (kept, 3 if kept == "plugin" else 0)
    assert json.loads((tmp_path / "e.engine.json").read_text())["timing"]["speedup"]["value"] == decomposed / 10


def test_auto_does_not_time_for_another_gpu(small, sm120, tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "gpus", lambda: (Gpu("a GPU", "sm90", 1, "1"),))
    record = rms_deploy.build(small(), tmp_path / "e.engine", **sm120)
    assert record.reason.startswith("the GPU here is sm90, which the engine is not built for, so the decomposed")


def test_auto_does_not_time_an_engine_without_weights(small, rtx, monkeypatch):
    """The choice alone: to strip weights takes a GPU."""
    built = []
    monkeypatch.setattr(choice, "gpus", lambda: (Gpu("a GPU", "sm120", 1, "1"),))
    monkeypatch.setattr(
        choice, "build_engine", lambda _request, norm: built.append(norm) or BuiltEngine(None, norm, (), None)
    )
    options = BuildOptions(strip_weights=True)
    with source_model(small()) as source:
        request = EngineRequest(rtx, source, options, embed_plugin=True, progress=BuildProgress())
        reason = choice.choose_engine(request).reason
    assert reason.startswith("an engine without its weights does not run, so the")
    assert built == ["decomposed"]


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("norm", ["plugin", "decomposed"])
def test_each_norm_is_recorded_with_its_layer(norm, small, sm120, tmp_path):
    record = rms_deploy.build(small(), tmp_path / "e.engine", norm=norm, **sm120)
    ops = ("AddRMSNorm", "RMSNorm", "PartialRMSNorm")
    names = [f"rms_deploy.{op}.{index}" for index, op in enumerate(ops)]
    layers = names if norm == "plugin" else [None] * 3
    assert record.norms == tuple(map(EngineNorm, names, ops, layers))
    assert [name for name, kind in record.layers.items() if kind == "PLUGIN_V3"] == [name for name in layers if name]


@pytest.mark.usefixtures("library")
def test_a_norm_that_is_no_plugin_fails_the_build(small, sm120, tmp_path, monkeypatch):
    def one_more(model):
        prepared, norms = with_plugin_norms(model)
        return prepared, (*norms, FusedNorm("forgotten", "RMSNorm"))

    monkeypatch.setattr(choice, "with_plugin_norms", one_more)
    message = "1 of 4 fused norms did not become plugins, the first is forgotten; `rms_deploy.doctor` says why"
    with pytest.raises(EngineError, match=message):
        rms_deploy.build(small(), tmp_path / "e.engine", norm="plugin", **sm120)
    assert [path.name for path in tmp_path.iterdir()] == ["float.onnx"]


@pytest.mark.usefixtures("library")
def test_a_plugin_in_a_decomposed_engine_fails_the_build(small, rtx, sm120, tmp_path, monkeypatch):
    load_plugins(rtx)
    monkeypatch.setattr(choice, "with_decomposed_norms", lambda model: with_plugin_norms(model)[0])
    with pytest.raises(EngineError, match="3 layers became plugins that should not"):
        rms_deploy.build(small(), tmp_path / "e.engine", norm="decomposed", **sm120)
