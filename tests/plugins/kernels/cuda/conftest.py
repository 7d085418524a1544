"""The CUDA kernels as the tests call them: compiled by g++ for the CPU, or by nvcc for the GPU of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from .compiling import PLUGINS, kernels_for_cpu, kernels_for_gpu, skip_without_gpu


@pytest.fixture(scope="session")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kernels_for_cpu(tmp_path_factory.mktemp("kernels") / "on_cpu.so", PLUGINS)


@pytest.fixture(scope="session")
def on_gpu(tmp_path_factory: pytest.TempPathFactory, nvcc: Path) -> Path:
    skip_without_gpu()
    return kernels_for_gpu(tmp_path_factory.mktemp("kernels") / "on_gpu.so", nvcc, "native")
