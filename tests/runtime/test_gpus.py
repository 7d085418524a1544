"""What is read from nvidia-smi, of which a script takes the place."""

from __future__ import annotations

import pytest

from rms_deploy.runtime.gpus import Gpu, gpus


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    def write(script):
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path))
    return write


def test_each_gpu(nvidia_smi):
    nvidia_smi('echo "NVIDIA H200, 9.0, 143771, 570.1"; echo "NVIDIA GeForce RTX 5090, 12.0, [N/A], 570.1"')
    assert gpus() == (
        Gpu("NVIDIA H200", "sm90", 143771, "570.1"),
        Gpu("NVIDIA GeForce RTX 5090", "sm120", 0, "570.1"),
    )


def test_no_driver(nvidia_smi):
    assert gpus() == ()
    nvidia_smi("echo NVIDIA-SMI has failed because it could not communicate with the driver; exit 9")
    assert gpus() == ()
