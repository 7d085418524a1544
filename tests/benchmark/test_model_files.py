"""Each file is read once, and models in memory become files."""

from __future__ import annotations

from hashlib import sha256

import onnx
import pytest

from rms_deploy.benchmark import model_files
from rms_deploy.benchmark.bench import bench
from rms_deploy.benchmark.method import Method
from rms_deploy.benchmark.model_files import GivenModel, ModelFiles
from rms_deploy.errors import ModelFileError
from rms_deploy.onnx_model.file import load_model
from rms_deploy.onnx_model.file_hashes import file_hash

from ..made_models import fused_norm, write

QUICK = {"method": Method(launches=1, rounds=1, duration=0.0, warmup=0.0)}


def test_one_model_or_several_files_or_not(tmp_path):
    path = write(tmp_path / "a.onnx")
    folder = tmp_path / "made"
    folder.mkdir()
    files = ModelFiles(folder)
    assert files.take(path) == files.take([str(path)]) == [GivenModel(str(path), str(path))]
    assert files.take([]) == []
    given = files.take([path, onnx.load(path), load_model(path)])
    assert [model.name for model in given] == [str(path), "model 2", "model 3"]
    assert [onnx.load(model.path).graph.node[0].op_type for model in given] == ["Exp"] * 3
    assert all(model.path.startswith(str(folder)) for model in given[1:])


def test_an_engine_is_told_by_its_name(tmp_path):
    assert [model.is_engine for model in ModelFiles(tmp_path).take(["a.onnx", "a.engine", "a.plan"])] == [
        False,
        True,
        True,
    ]


@pytest.fixture(name="read")
def _read(monkeypatch):
    """The paths that were read, in order."""
    paths = []
    original = model_files.load_model
    monkeypatch.setattr(model_files, "load_model", lambda path: paths.append(path) or original(path))
    return paths


def test_a_file_is_read_when_it_is_asked_for_and_once(tmp_path, read):
    path = str(fused_norm(tmp_path / "a.onnx"))
    files = ModelFiles(tmp_path)
    files.take(path)
    assert read == []
    assert files[path] is files[path]
    assert files.inspection(path).count() == {"fused RMSNorm": 1}
    assert files.add(tmp_path / "b.onnx", files[path]) == str(tmp_path / "b.onnx")
    assert files[str(tmp_path / "b.onnx")] is files[path]
    assert read == [path]
    with pytest.raises(ModelFileError, match="no such file"):
        files["missing.onnx"]


def test_a_benchmark_reads_each_file_once(tmp_path, read):
    paths = [str(fused_norm(tmp_path / f"{name}.onnx")) for name in "ab"]
    assert not bench(paths, also_without_library=True, sweep={"batch": (1, 2)}, **QUICK).failed
    assert read == paths
    read.clear()
    assert not bench(paths[0], compare=("original", "decomposed", "fused"), **QUICK).failed
    assert read == paths[:1]


def test_each_file_has_its_hash(tmp_path):
    """An engine is one file, and a server's model has none here."""
    path = write(tmp_path / "a.onnx")
    (tmp_path / "a.engine").write_bytes(b"plan")
    files = ModelFiles(tmp_path)
    given = files.take([path, tmp_path / "a.engine", "grpc://localhost:1/decoder"])
    assert files.hashes(given) == {
        str(path): {"a.onnx": sha256(path.read_bytes()).hexdigest()},
        str(tmp_path / "a.engine"): {"a.engine": sha256(b"plan").hexdigest()},
    }
    assert bench(path, **QUICK).files == {str(path): {"a.onnx": file_hash(path)}}
