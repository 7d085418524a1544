"""Every tiny model builds with TensorRT-RTX, which needs no GPU, with all its norms decomposed."""

from __future__ import annotations

import pytest

from rms_deploy import export
from rms_deploy.engine.build import build
from rms_deploy.models import MODELS


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name.endswith("-tiny")])
def test_builds_with_decomposed_norms(name, tmp_path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
    exported = export(name, tmp_path / "model.onnx")
    record = build(
        tmp_path / "model.onnx",
        tmp_path / "model.engine",
        runtime="tensorrt-rtx",
        norm="decomposed",
        devices=["sm89"],
    )
    assert record.norm_count == len(exported.norms) > 0
    assert (record.unfused_count, record.plugin_count) == (0, 0)
    assert record.bytes == (tmp_path / "model.engine").stat().st_size
