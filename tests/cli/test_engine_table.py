"""The layers of an engine, as `rms-deploy inspect` prints them."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from rms_deploy.cli.main import rms_deploy
from rms_deploy.engine import inspect_engine as module
from rms_deploy.engine.inspect_engine import EngineInspection, EngineLayer
from rms_deploy.engine.record import EngineNorm


def invoke(*arguments):
    return CliRunner().invoke(rms_deploy, [str(argument) for argument in arguments], catch_exceptions=False)


RECORD = {
    "runtime": "tensorrt-rtx",
    "runtime_version": "1.7",
    "norms": [{"name": "a", "op": "RMSNorm", "layer": "a"}, {"name": "b", "op": "AddRMSNorm", "layer": None}],
    "layers": {"a": "PLUGIN_V3", "multiply": "ELEMENTWISE"},
}


@pytest.fixture
def engine(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "gpus", tuple)
    monkeypatch.setattr(module, "gpu_problem", lambda: "there is no driver")
    (tmp_path / "e.engine").write_bytes(b"plan")
    (tmp_path / "e.engine.json").write_text(json.dumps(RECORD))
    return tmp_path / "e.engine"


def test_layers_and_where_they_are_known_from(engine):
    result = invoke("inspect", engine)
    assert result.exit_code == 0
    assert result.stdout == (
        "layer     type         norm\n"
        "a         PLUGIN_V3    RMSNorm: plugin\n"
        "multiply  ELEMENTWISE\n"
        "2 layers; 1 of 2 norms are plugin layers\n"
        f"layers of the network before TensorRT fused them, from {engine}.json "
        "(not of the engine itself: there is no driver)\n"
    )


def test_layers_of_the_engine_inspector(engine, monkeypatch):
    layers = (EngineLayer("a", "", "RMSNorm"), EngineLayer("fused", "", ""))
    inspection = EngineInspection(
        "e.engine", "tensorrt", "11", "engine inspector", "", (EngineNorm("a", "RMSNorm", "a"),), layers
    )
    monkeypatch.setattr("rms_deploy.cli.engine_table.inspect_engine", lambda _path: inspection)
    assert invoke("inspect", engine).stdout == (
        "layer  norm\n"
        "a      RMSNorm: plugin\n"
        "fused\n"
        "2 layers; 1 of 1 norms are plugin layers\n"
        "layers of the engine, from TensorRT's engine inspector\n"
    )


def test_json(engine):
    found = json.loads(invoke("inspect", engine, "--json").stdout)
    assert (found["source"], found["norm_count"], found["plugin_count"]) == ("record", 2, 1)
    assert found["layers"][0] == {"name": "a", "type": "PLUGIN_V3", "norm": "RMSNorm"}


def test_neither_record_nor_gpu_is_one_line(engine):
    engine.with_name("e.engine.json").unlink()
    result = invoke("inspect", engine)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: {engine}: has no record of its layers (e.engine.json), and TensorRT cannot load it: "
        "there is no driver\n"
    )
