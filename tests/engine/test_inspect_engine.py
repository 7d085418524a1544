"""Layers of an engine: from its record, which a test can make; from the engine inspector, which takes a GPU."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

import rms_deploy
from rms_deploy.engine import inspect_engine as module
from rms_deploy.engine.inspect_engine import EngineLayer, inspect_engine
from rms_deploy.engine.record import EngineNorm
from rms_deploy.errors import InstallationError, ModelFileError, RunError
from rms_deploy.runtime.gpus import Gpu

RECORD = {
    "runtime": "tensorrt",
    "runtime_version": "11.0",
    "norms": [{"name": "norm", "op": "RMSNorm", "layer": "norm"}],
    "layers": {"norm": "PLUGIN_V3", "mul": "ELEMENTWISE"},
    "plugin": {"library": "a.so", "sha256": "0", "embedded": True},
}


@pytest.fixture
def engine(tmp_path):
    """A file in the place of an engine, with or without a record."""

    def write(record=None):
        path = tmp_path / "e.engine"
        path.write_bytes(b"plan")
        if record is not None:
            (tmp_path / "e.engine.json").write_text(json.dumps(record))
        return path

    return write


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(module, "gpus", tuple)
    monkeypatch.setattr(module, "gpu_problem", lambda: "there is no driver")


@pytest.fixture
def inspected(monkeypatch):
    """A GPU whose engine inspector says this; the options of the engines that it loads."""
    loaded = []

    def say(text):
        def deserialized(_api, plan, **options):
            loaded.append((plan, options))
            inspector = SimpleNamespace(get_engine_information=lambda _format: text)
            return SimpleNamespace(create_engine_inspector=lambda: inspector)

        trt = SimpleNamespace(LayerInformationFormat=SimpleNamespace(JSON="json"))
        monkeypatch.setattr(module, "gpus", lambda: (Gpu("a GPU", "sm120", 1, "1"),))
        monkeypatch.setattr(
            module, "tensorrt", lambda name: SimpleNamespace(name=name or "tensorrt", version="11", module=trt)
        )
        monkeypatch.setattr(module, "deserialized", deserialized)
        return loaded

    return say


@pytest.mark.usefixtures("library", "no_gpu")
@pytest.mark.parametrize("norm", ["plugin", "decomposed"])
def test_an_engine_that_build_made(norm, small, sm120, tmp_path):
    record = rms_deploy.build(small(), tmp_path / "e.engine", norm=norm, **sm120)
    found = inspect_engine(tmp_path / "e.engine")
    assert (found.source, found.reason) == ("record", "there is no driver")
    assert (found.runtime, found.runtime_version) == ("tensorrt-rtx", record.runtime_version)
    assert found.norms == record.norms
    assert {layer.name: layer.type for layer in found.layers} == record.layers
    plugins = {layer.name: (layer.type, layer.norm) for layer in found.layers if layer.norm}
    expected = {norm.layer: ("PLUGIN_V3", norm.op) for norm in record.norms if norm.layer}
    assert plugins == expected
    assert (found.norm_count, found.plugin_count) == (3, len(expected))
    assert json.loads(json.dumps(found.to_dict()))["plugin_count"] == len(expected)


def test_names_of_the_engine_inspector(engine, inspected):
    loaded = inspected('{"Layers": ["norm", "__myl_MulAdd_myl0_1", "norm_myl0_2"], "Bindings": []}')
    found = inspect_engine(engine(RECORD))
    assert (found.source, found.reason) == ("engine inspector", "")
    assert found.layers == (
        EngineLayer("norm", "", "RMSNorm"),
        EngineLayer("__myl_MulAdd_myl0_1", "", ""),
        EngineLayer("norm_myl0_2", "", "RMSNorm"),
    )
    assert loaded == [(b"plan", {"name": str(engine(RECORD)), "embedded_plugin": True, "holds_runtime": False})]


def test_types_of_the_engine_inspector_without_a_record(engine, inspected):
    """An engine that was built to say more of its layers, by another tool."""
    layers = [
        {"Name": "a", "LayerType": "PluginV3", "PluginType": "AddRMSNorm"},
        {"Name": "b", "LayerType": "PluginV3", "PluginType": "Somebody's"},
        {"Name": "c", "LayerType": "kgen"},
    ]
    inspected(json.dumps({"Layers": layers}))
    found = inspect_engine(engine())
    assert found.layers == (
        EngineLayer("a", "PluginV3", "AddRMSNorm"),
        EngineLayer("b", "PluginV3", ""),
        EngineLayer("c", "kgen", ""),
    )
    assert found.norms == (EngineNorm("a", "AddRMSNorm", "a"),)


@pytest.mark.parametrize("text", ["", "{}", "no JSON", '{"Layers": 3}'])
def test_an_inspector_that_lists_nothing(text, engine, inspected):
    inspected(text)
    found = inspect_engine(engine(RECORD))
    assert (found.source, found.reason) == ("record", "tensorrt 11 lists no layers")
    assert found.plugin_count == 1


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("record", [None, {}, {"layers": {}, "norms": []}, {"layers": 1, "norms": [{"no": 1}]}])
def test_neither_record_nor_gpu_is_one_line(record, engine):
    message = (
        r"e\.engine: has no record of its layers \(e\.engine\.json\), and TensorRT cannot load it: there is no driver"
    )
    with pytest.raises(InstallationError, match=message):
        inspect_engine(engine(record))


def test_no_record_and_an_engine_that_tensorrt_refuses(engine, inspected, monkeypatch):
    def refuse(*_, **__):
        raise RunError("e.engine: tensorrt 11 does not load it: it is truncated")

    inspected("")
    monkeypatch.setattr(module, "deserialized", refuse)
    with pytest.raises(RunError, match=r"has no record of its layers .*, and TensorRT cannot load it: .*truncated"):
        inspect_engine(engine())


def test_no_such_file(tmp_path):
    with pytest.raises(ModelFileError, match=r"no\.engine: no such file"):
        inspect_engine(tmp_path / "no.engine")
