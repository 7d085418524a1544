"""Models that the tests of this folder package, and a Ray cluster for those that need one."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.file import save_model
from rms_deploy.ops.functions import attach_functions

from .loopback_cluster import LoopbackCluster


def fused(path: Path) -> Path:
    """One of our ops over a dynamic batch, with its function body."""
    text = (
        '<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]> g (float[batch,8] x) => (float[batch,8] y) '
        "<float[8] w = {1, 2, 3, 4, 5, 6, 7, 8}> { y = rms_deploy.RMSNorm(x, w) }"
    )
    model = ir.from_proto(onnx.parser.parse_model(text))
    attach_functions(model)
    save_model(model, path)
    return path


@pytest.fixture
def norm(tmp_path):
    return fused(tmp_path / "norm.onnx")


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
