"""Models of a folder, fused on nodes: without a cluster."""

from __future__ import annotations

import onnx
import pytest

from rms_deploy.deployment import node_fuse
from rms_deploy.deployment.fuse_folder import fuse_folder

from ..made_models import decomposed_norm, with_data
from .here import Here, use


@pytest.fixture
def zoo(tmp_path):
    folder = tmp_path / "zoo"
    (folder / "deep").mkdir(parents=True)
    decomposed_norm(folder / "deep" / "b.onnx")
    with_data(folder / "data.onnx")
    (folder / "a.onnx").write_bytes(b"no model")
    return folder


def plain(result):
    return [(m.model, m.norm_count, m.fused_count, m.written, m.failure) for m in result.models]


def test_it_is_what_processes_do(zoo, tmp_path, monkeypatch):
    cluster = use(Here(), monkeypatch, node_fuse)
    there, here = fuse_folder(zoo, tmp_path / "there", ray="auto"), fuse_folder(zoo, tmp_path / "here")
    assert plain(there) == plain(here)
    assert [model.written for model in there.models] == [False, True, True]
    files = {
        name: sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*") if path.is_file())
        for name in ("there", "here")
    }
    assert files["there"] == files["here"]
    for file in files["here"]:
        assert (tmp_path / "there" / file).read_bytes() == (tmp_path / "here" / file).read_bytes()
    assert cluster.asked == {"alone": False}
    assert [node.op_type for node in onnx.load(tmp_path / "there" / "deep" / "b.onnx").graph.node] == ["RMSNorm"]


def test_options_and_lost_models(zoo, tmp_path, monkeypatch):
    use(Here(dies=1), monkeypatch, node_fuse)
    result = fuse_folder(zoo, tmp_path / "out", ray="auto", target="onnxruntime")
    assert [model.failure for model in result.models[1:]] == ["no node is left that could run it", None]
    nodes = onnx.load(tmp_path / "out" / "deep" / "b.onnx").graph.node
    assert "SimplifiedLayerNormalization" in [node.op_type for node in nodes]
