"""An engine for each GPU type, and their index, without a cluster and without a GPU."""

from __future__ import annotations

import json

import pytest

from rms_deploy.deployment import build_for_gpus as module
from rms_deploy.deployment import node_build
from rms_deploy.deployment.build_for_gpus import build_for_gpus
from rms_deploy.deployment.cluster import Node
from rms_deploy.deployment.engine_index import IndexedEngine, read_index, write_index
from rms_deploy.errors import InputError, ModelFileError, OutputError, RunError

from ..made_models import decomposed_norm
from .here import Here, use

OPTIONS = {"runtime": "tensorrt-rtx", "optimization_profiles": [{"x": ((1, 8),) * 3}]}


def node(gpu_type, has_gpu=False):
    return Node(gpu_type, f"at-{gpu_type}", cpus=1, has_gpu=has_gpu, gpu_type=gpu_type, cpu="a processor")


@pytest.fixture
def cluster(monkeypatch):
    """Makes the next builds run on nodes of these types."""
    monkeypatch.setattr(node_build, "gpus", tuple)
    return lambda *nodes: use(Here(nodes), monkeypatch, module)


@pytest.fixture
def rtx():
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")


@pytest.mark.usefixtures("rtx")
def test_an_engine_for_each_type(cluster, tmp_path):
    here, seen = cluster(node("T4"), node("L4"), node("L4"), node("")), []
    model = decomposed_norm(tmp_path / "a.onnx")
    built = build_for_gpus(model, tmp_path / "out", on_progress=lambda *step: seen.append(step), devices=(), **OPTIONS)
    assert read_index(tmp_path / "out") == (
        IndexedEngine("L4", "sm89", "a-L4.engine", "a-L4.engine.json", "../a.onnx"),
        IndexedEngine("T4", "sm75", "a-T4.engine", "a-T4.engine.json", "../a.onnx"),
    )
    assert here.groups == [["at-L4", "at-L4"], ["at-T4"]]
    assert seen == [(1, 2, "L4"), (2, 2, "T4")]
    for engine in built.engines:
        path = tmp_path / "out" / engine.indexed.engine
        record = json.loads((tmp_path / "out" / engine.indexed.record).read_text())
        assert (record["engine"], record["devices"]) == (str(path), [engine.indexed.device])
        assert path.stat().st_size == record["bytes"] == engine.record["bytes"]
        assert list(record["model"]) == ["a.onnx"]


@pytest.mark.usefixtures("rtx")
def test_one_that_fails_stops_no_other(cluster, tmp_path):
    cluster(node("L4"), node("X99"))
    built = build_for_gpus(decomposed_norm(tmp_path / "a.onnx"), tmp_path / "out", **OPTIONS)
    assert [engine.gpu_type for engine in built.failed] == ["X99"]
    assert built.failed[0].failure.startswith("GPU type X99: its compute capability is not known")
    assert [engine.gpu_type for engine in read_index(tmp_path / "out")] == ["L4"]
    assert built.to_dict()["engine_count"] == 1


def test_a_node_with_a_gpu_builds_on_it(cluster, tmp_path, monkeypatch):
    """And engines of an earlier run, which this one was to replace, are in no index."""
    here = cluster(node("L4"), node("L4", has_gpu=True))
    (tmp_path / "out").mkdir()
    write_index(tmp_path / "out", [IndexedEngine("L4", "sm89", "a-L4.engine", "a-L4.engine.json", "../a.onnx")])
    monkeypatch.setattr(here, "_result", lambda _: RunError("not now"))
    build_for_gpus(decomposed_norm(tmp_path / "a.onnx"), tmp_path / "out")
    assert here.groups == [["at-L4"]]
    assert not (tmp_path / "out" / "index.json").exists()


def test_the_gpu_of_the_node_is_taken(cluster, tmp_path, monkeypatch):
    here, taken = cluster(node("L4", has_gpu=True), node("T4")), []
    monkeypatch.setattr(here, "run", lambda calls, **needs: taken.append((len(calls), needs)) or iter(()))
    with pytest.raises(KeyError):  # no result for a type is a bug of the cluster
        build_for_gpus(decomposed_norm(tmp_path / "a.onnx"), tmp_path / "out")
    assert taken == [(1, {"gpus": 1}), (1, {"gpus": 0})]


def test_mistakes(cluster, tmp_path):
    model = decomposed_norm(tmp_path / "a.onnx")
    cluster(node(""))
    with pytest.raises(RunError, match="none of the 1 nodes announces a GPU type"):
        build_for_gpus(model, tmp_path / "out")
    with pytest.raises(InputError, match="`devices` is of one engine"):
        build_for_gpus(model, tmp_path / "out", devices=("sm89",))
    with pytest.raises(InputError, match="`timing_cache` is of one engine"):
        build_for_gpus(model, tmp_path / "out", timing_cache="cache")
    with pytest.raises(ModelFileError, match="no such file"):
        build_for_gpus(tmp_path / "none.onnx", tmp_path / "out")
    with pytest.raises(OutputError, match="is a file"):
        build_for_gpus(model, model)
