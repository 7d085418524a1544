"""The demo runs end to end and shows every step; what it measures is the benchmark's business."""

from __future__ import annotations

import onnx
import pytest
from click.testing import CliRunner

from rms_deploy.cli.main import rms_deploy
from rms_deploy.ops.contract import DOMAIN


@pytest.mark.slow
def test_demo(tmp_path) -> None:
    arguments = ["demo", "--model", "llama-tiny", "--keep", str(tmp_path / "kept")]
    result = CliRunner().invoke(rms_deploy, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    for step in (
        "export llama-tiny",
        "fused 5 of 5 norms",
        "inspect llama-tiny-fused.onnx",
        "layers.{0-1}.mlp_norm x2",
        "1 fused RMSNorm, 4 fused AddRMSNorm",
        "fused 1 of 1 norms",
        "equal within",
        "times faster",
        "without our library",
        "GB/s",
    ):
        assert step in result.stdout
    model = onnx.load(tmp_path / "kept" / "llama-tiny-fused.onnx")
    assert sum(node.domain == DOMAIN for node in model.graph.node) == 5


def test_folder_that_cannot_be_made(tmp_path) -> None:
    file = tmp_path / "file"
    file.touch()
    result = CliRunner().invoke(rms_deploy, ["demo", "--keep", str(file / "kept")], catch_exceptions=False)
    assert result.exit_code == 1
    assert "cannot be a folder" in result.stderr
