"""The record of an engine, as JSON."""

from __future__ import annotations

import json
from hashlib import sha256

import onnx
import pytest

from rms_deploy.benchmark.latency import Latency, Speedup
from rms_deploy.engine.builder import NetworkLayer
from rms_deploy.engine.record import EngineNorm, EngineRecord, NormTiming, file_hash, model_hashes, recorded_layers
from rms_deploy.onnx_model.file import load_model
from rms_deploy.onnx_model.optimization_profiles import ShapeRange


@pytest.fixture
def record():
    fast, slow = (Latency.of([[[time]] * 4] * 5) for time in (10.0, 12.0))
    return EngineRecord(
        engine="e.engine",
        bytes=1,
        seconds=1.0,
        runtime="tensorrt",
        runtime_version="11.0",
        devices=(),
        optimization_profiles=({"x": ShapeRange((1, 8), (2, 8), (4, 8))},),
        inputs={},
        outputs={},
        norm="plugin",
        reason="as asked for",
        timing=NormTiming(fast, slow, Speedup.of(slow, fast)),
        norms=(EngineNorm("a", "RMSNorm", "a"), EngineNorm("b", "AddRMSNorm", None)),
        unfused_count=3,
        layers={"a": "PLUGIN_V3"},
        plugin=None,
        model={},
        options={},
        rms_deploy="0.1",
    )


def test_counts(record):
    assert (record.norm_count, record.plugin_count, record.unfused_count) == (2, 1, 3)


def test_json(record):
    written = json.loads(json.dumps(record.to_dict()))
    assert written["optimization_profiles"] == [{"x": {"min": [1, 8], "opt": [2, 8], "max": [4, 8]}}]
    assert written["norms"][1] == {"name": "b", "op": "AddRMSNorm", "layer": None}
    assert (written["norm_count"], written["plugin_count"], written["unfused_count"]) == (2, 1, 3)
    assert list(written)[-1] == "layers"
    assert (written["layers"], written["timing"]["speedup"]["verdict"]) == ({"a": "PLUGIN_V3"}, "faster")


def test_layers_of_nodes_by_name():
    layers = [
        NetworkLayer("W", "CONSTANT", is_node=False, is_norm=False),
        NetworkLayer("same", "UNARY", is_node=True, is_norm=False),
        NetworkLayer("same", "REDUCE", is_node=True, is_norm=False),
    ]
    assert recorded_layers(layers) == {"same": "UNARY", "same (2)": "REDUCE"}


def test_hashes_of_a_model_and_its_weights(small, tmp_path):
    path = small()
    assert file_hash(path) == sha256(path.read_bytes()).hexdigest()
    assert model_hashes(path, load_model(path)) == {"float.onnx": file_hash(path)}
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights", size_threshold=0)
    hashes = {"float.onnx": file_hash(path), "weights": file_hash(tmp_path / "weights")}
    assert model_hashes(path, load_model(path)) == hashes
