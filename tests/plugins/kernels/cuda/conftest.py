"""The CUDA kernels as the tests call them: compiled by g++ for the CPU, or by nvcc for the GPU of this machine."""

from __future__ import annotations

import os
import shutil
from importlib import util
from pathlib import Path

import pytest

from .compiling import PLUGINS, compiled_for_cpu, compiled_for_gpu, run


@pytest.fixture(scope="session")
def nvcc() -> Path:
    """The user's, the system's, or PyPI's."""
    spec = util.find_spec("nvidia")
    roots = [Path(p) / "cu13" for p in (spec.submodule_search_locations or [] if spec else [])]
    found = (
        os.environ.get("CUDACXX")
        or shutil.which("nvcc")
        or next((str(root / "bin" / "nvcc") for root in roots if (root / "bin" / "nvcc").exists()), None)
    )
    if found is None:
        pytest.skip("no nvcc: pip install nvidia-cuda-nvcc==13.0.* and its companions of pyproject.toml")
    return Path(found)


@pytest.fixture(scope="session")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled_for_cpu(tmp_path_factory.mktemp("kernels") / "on_cpu.so", PLUGINS)


@pytest.fixture(scope="session")
def on_gpu(tmp_path_factory: pytest.TempPathFactory, nvcc: Path) -> Path:
    if shutil.which("nvidia-smi") is None or "GPU 0" not in run(["nvidia-smi", "-L"]):
        pytest.skip("no NVIDIA GPU")
    return compiled_for_gpu(tmp_path_factory.mktemp("kernels") / "on_gpu.so", nvcc, "native")
