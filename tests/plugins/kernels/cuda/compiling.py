"""The kernels as a library: compiled by g++ for the CPU, or by nvcc for a GPU."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PLUGINS = HERE.parents[3] / "plugins"


def run(command: Sequence[object]) -> str:
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 0, f"{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout + result.stderr


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
