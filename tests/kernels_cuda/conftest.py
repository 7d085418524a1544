"""The CUDA kernels as the tests call them: compiled by g++ for the CPU, or by nvcc for the GPU of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import util
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # driver.py, cases.py

HERE = Path(__file__).parent
PLUGINS = HERE.parents[1] / "plugins"


def run(command: Sequence[object]) -> str:
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 0, f"{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout + result.stderr


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


def compiled_for_cpu(library: Path, plugins: Path) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    options = [
        "-std=c++17",
        "-O2",
        "-fPIC",
        "-shared",
        "-fno-strict-aliasing",
        "-ffp-contract=off",
        "-Wl,--no-undefined",
    ]
    # Few blocks per launch, so that most cases need several launches.
    options += ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-DRMS_DEPLOY_CUDA_MAX_BLOCKS=3"]
    folder = HERE / "on_cpu"
    run(["g++", *options, f"-I{folder}", f"-I{plugins}", folder / "kernels.cpp", HERE / "entry.cpp", "-o", library])
    return library


@pytest.fixture(scope="session")
def on_gpu(tmp_path_factory: pytest.TempPathFactory, nvcc: Path) -> Path:
    if shutil.which("nvidia-smi") is None or "GPU 0" not in run(["nvidia-smi", "-L"]):
        pytest.skip("no NVIDIA GPU")
    return compiled_for_gpu(tmp_path_factory.mktemp("kernels") / "on_gpu.so", nvcc, "native")


def compiled_for_gpu(library: Path, nvcc: Path, architecture: str) -> Path:
    options = [
        "-std=c++17",
        "-O3",
        f"-arch={architecture}",
        "-shared",
        "-Xcompiler=-fPIC",
        f"-L{nvcc.parents[1] / 'lib'}",
    ]
    run([nvcc, *options, f"-I{PLUGINS}", PLUGINS / "kernels/cuda/norm.cu", HERE / "entry.cpp", "-o", library])
    return library
