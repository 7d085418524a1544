"""The CUDA kernels in a library, alone or with what a test adds: compiled by g++ for the CPU, or by nvcc for a GPU."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ON_CPU = HERE / "on_cpu"
PLUGINS = HERE.parents[3] / "plugins"


def run(command: Sequence[object]) -> str:
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 0, f"{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout + result.stderr


def skip_without_gpu() -> None:
    if shutil.which("nvidia-smi") is None or "GPU 0" not in run(["nvidia-smi", "-L"]):
        pytest.skip("no NVIDIA GPU")


def compiled_for_cpu(library: Path, *arguments: object, plugins: Path = PLUGINS) -> Path:
    """`arguments`: sources and options beside those of the kernels, which are those in the folder `plugins`."""
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    options = ["-std=c++17", "-O2", "-fPIC", "-shared", "-fno-strict-aliasing", "-ffp-contract=off"]
    options += ["-Wl,--no-undefined", f"-I{ON_CPU}", f"-I{plugins}"]
    run(["g++", *options, ON_CPU / "kernels.cpp", *arguments, "-o", library])
    return library


def compiled_for_gpu(library: Path, nvcc: Path, architecture: str, *arguments: object) -> Path:
    options = ["-std=c++17", "-O3", f"-arch={architecture}", "-shared", "-Xcompiler=-fPIC"]
    options += [f"-L{nvcc.parents[1] / 'lib'}", f"-I{PLUGINS}"]
    run([nvcc, *options, PLUGINS / "kernels" / "cuda" / "norm.cu", *arguments, "-o", library])
    return library


def kernels_for_cpu(library: Path, plugins: Path) -> Path:
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    few_blocks = "-DRMS_DEPLOY_CUDA_MAX_BLOCKS=3"  # per launch, so that most cases need several launches
    return compiled_for_cpu(library, HERE / "entry.cpp", *warnings, few_blocks, plugins=plugins)


def kernels_for_gpu(library: Path, nvcc: Path, architecture: str) -> Path:
    return compiled_for_gpu(library, nvcc, architecture, HERE / "entry.cpp")
