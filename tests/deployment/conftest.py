"""Models that the tests of this folder package, and a Ray cluster for those that need one."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

import onnx
import onnx.parser
import pytest

from ..made_models import fused_norm
from .loopback_cluster import LoopbackCluster


@pytest.fixture
def norm(tmp_path):
    return fused_norm(tmp_path / "norm.onnx")


@pytest.fixture
def write(tmp_path):
    """A model of one op, with the signature that is given."""

    def written(inputs: str = "float[batch,8] x", outputs: str = "float[batch,8] y", body: str = "y = Identity(x)"):
        text = f'<ir_version: 8, opset_import: ["" : 18]> g ({inputs}) => ({outputs}) {{ {body} }}'
        onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    return written


@pytest.fixture
def loopback():
    """A cluster without a node yet. Its folder has a short name, because Ray's sockets are in it."""
    pytest.importorskip("ray", reason="ray is not installed")
    with ExitStack() as stack:
        cluster = LoopbackCluster(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray"))))
        stack.callback(cluster.close)
        yield cluster
