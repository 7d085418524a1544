"""Which engine is kept, why, and the proof that its norms are what was asked for."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

import rms_deploy
from rms_deploy.benchmark.latency import Latency
from rms_deploy.engine import builder, choice
from rms_deploy.engine.builder import BuildOptions
from rms_deploy.engine.choice import BuiltEngine, EngineRequest
from rms_deploy.engine.parser_input import FusedNorm, with_plugin_norms
from rms_deploy.engine.progress import BuildProgress
from rms_deploy.engine.record import EngineNorm
from rms_deploy.engine.source_model import source_model
from rms_deploy.engine.timing import EngineTimes
from rms_deploy.errors import EngineError, InstallationError, RunError
from rms_deploy.runtime.gpus import Gpu
from rms_deploy.runtime.tensorrt_plugin import load_plugins

OPS = ("AddRMSNorm", "RMSNorm", "PartialRMSNorm")


def latencies(*medians):
    return tuple(Latency.of([[[median]]] * 5) for median in medians)


@pytest.fixture
def gpu(monkeypatch):
    """A GPU on which each engine takes 100 us, less what its plugins gain; the choice alone, no engine runs."""
    told = SimpleNamespace(gains={}, failure=None, cuda_graph=True)

    def time_engines(api, candidate, other, feeds):
        assert set(feeds) == {"X", "R"}
        if told.failure is not None:
            raise told.failure
        taken = [100 - sum(told.gains[op] for op in plugins_of(api, plan)) for plan in (candidate, other)]
        return EngineTimes(*latencies(*taken), told.cuda_graph)

    def plugins_of(_api, plan):
        return {layer.name.split(".")[1] for layer in told.layers[id(plan.data)] if layer.is_norm}

    def build_plan(*arguments, **options):
        plan = builder.build_plan(*arguments, **options)
        told.layers[id(plan.data)] = plan.layers
        told.plans.append(plan)  # so that no other has its id
        return plan

    told.layers, told.plans = {}, []
    monkeypatch.setattr(choice, "gpus", lambda: (Gpu("a GPU", "sm120", 1, "1"),))
    monkeypatch.setattr(choice, "time_engines", time_engines)
    monkeypatch.setattr(choice, "build_plan", build_plan)
    return told


def test_auto_without_a_gpu_says_that_it_cannot_time(small, sm120, tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "gpus", tuple)
    monkeypatch.setattr(choice, "gpu_problem", lambda: "there is no driver")
    record = rms_deploy.build(small(), tmp_path / "e.engine", **sm120)
    assert (record.norm, record.timings) == ("decomposed", ())
    assert record.reason == "both are timed on a GPU, and there is no driver, so the decomposed norms were taken"


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("gains", "norm", "reason"),
    [
        ((10, 10, 10), "plugin", "the plugins are 1.429 times as fast as no plugins"),
        ((0, 0, 0), "decomposed", "no engine with plugins was faster"),
        ((-10, -10, -10), "decomposed", "no engine with plugins was faster"),
    ],
)
def test_auto_keeps_the_faster(gains, norm, reason, gpu, small, sm120, tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "_TIMES_AS_LONG", 100)
    gpu.gains = dict(zip(OPS, gains, strict=True))
    record = rms_deploy.build(small(), tmp_path / "e.engine", **sm120)
    assert (record.norm, record.plugin_count, record.reason) == (norm, 3 if norm == "plugin" else 0, reason)
    written = json.loads((tmp_path / "e.engine.json").read_text())["timings"]
    assert len(written) == 4, "all, and each kind in turn"
    assert written[0]["speedup"]["value"] == pytest.approx(100 / (100 - sum(gains)))
    assert (len(written[0]["plugins"]), written[0]["against"], written[0]["cuda_graph"]) == (3, [], True)


@pytest.mark.usefixtures("library")
def test_auto_takes_plugins_where_they_win_alone(gpu, small, sm120, tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "_TIMES_AS_LONG", 100)
    gpu.gains = {"AddRMSNorm": 20, "RMSNorm": -30, "PartialRMSNorm": 5}
    record = rms_deploy.build(small(), tmp_path / "e.engine", **sm120)
    assert record.norm == "mixed"
    assert {norm.op for norm in record.norms if norm.layer} == {"AddRMSNorm", "PartialRMSNorm"}
    plugins = "AddRMSNorm 64 float32, PartialRMSNorm 64 float32"
    assert record.reason.startswith(f"plugins for {plugins} are ")
    assert [name for name, kind in record.layers.items() if kind == "PLUGIN_V3"] == [
        norm.layer for norm in record.norms if norm.layer
    ]


@pytest.mark.usefixtures("library")
def test_auto_builds_no_third_engine_where_the_first_two_took_the_time(gpu, small, sm120, tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "_TIMES_AS_LONG", 1)
    gpu.gains = dict.fromkeys(OPS, -1)
    record = rms_deploy.build(small(), tmp_path / "e.engine", **sm120)
    assert (len(gpu.plans), len(record.timings)) == (2, 1)


@pytest.mark.parametrize(
    ("failure", "engines"), [(RunError("it does not run"), 5), (InstallationError("no cuda-python"), 2)]
)
@pytest.mark.usefixtures("library")
def test_auto_keeps_the_decomposed_norms_where_the_plugins_fail(
    failure, engines, gpu, small, sm120, tmp_path, monkeypatch
):
    """Where nothing can run engines at all, no third one is built."""
    monkeypatch.setattr(choice, "_TIMES_AS_LONG", 100)
    gpu.failure = failure
    record = rms_deploy.build(small(), tmp_path / "e.engine", **sm120)
    assert (record.norm, record.plugin_count, record.timings) == ("decomposed", 0, ())
    assert len(gpu.plans) == engines
    (_guessed, *notes) = record.notes
    assert notes[0] == f"an engine with all norms as plugins was not taken: {failure}"
    assert len(notes) == engines - 1


@pytest.mark.usefixtures("gpu")
def test_auto_needs_no_plugin_library(small, sm120, tmp_path, monkeypatch):
    def load_plugins(_api):
        raise InstallationError("the plugin library is not built")

    monkeypatch.setattr(choice, "load_plugins", load_plugins)
    record = rms_deploy.build(small(), tmp_path / "e.engine", **sm120)
    assert record.norm == "decomposed"
    assert record.notes[-1] == ("an engine with all norms as plugins was not taken: the plugin library is not built")


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
    names = [f"rms_deploy.{op}.{index}" for index, op in enumerate(OPS)]
    layers = names if norm == "plugin" else [None] * 3
    assert record.norms == tuple(map(EngineNorm, names, OPS, layers))
    assert [name for name, kind in record.layers.items() if kind == "PLUGIN_V3"] == [name for name in layers if name]


@pytest.mark.usefixtures("library")
def test_a_norm_that_is_no_plugin_fails_the_build(small, sm120, tmp_path, monkeypatch):
    def one_more(model, names):
        prepared, norms = with_plugin_norms(model, names)
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
