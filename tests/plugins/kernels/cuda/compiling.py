"""The CUDA kernels in a library, alone or with what a test adds: compiled by g++ for the CPU, or by nvcc for a GPU."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from rms_deploy.runtime.gpus import gpus

HERE = Path(__file__).parent
ON_CPU = HERE / "on_cpu"
PLUGINS = HERE.parents[3] / "plugins"


def run(command: Sequence[object]) -> str:
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 0, f"{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout + result.stderr


def skip_without_gpu() -> None:
    if not gpus():
        pytest.skip("no NVIDIA GPU")


def stand_in(driver: Path, plugins: Path = PLUGINS) -> Path:
    """The stand-in for the driver, whose GPU is the CPU."""
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    options = ["-std=c++17", "-O2", "-fPIC", "-shared", "-fno-strict-aliasing", "-ffp-contract=off"]
    options += ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wl,--no-undefined", f"-I{plugins}"]
    run(["g++", *options, ON_CPU / "libcuda.cpp", "-o", driver])
    return driver


def compiled_with_image(library: Path, image: Path, *arguments: object, plugins: Path = PLUGINS) -> Path:
    """The kernels' side of the host around a fat binary, and `arguments`: sources and options."""
    options = ["-std=c++17", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-Wl,--no-undefined"]
    options += [f"-I{plugins}", f'-DRMS_DEPLOY_CUDA_IMAGE="{image}"', "-DRMS_DEPLOY_CUDA_DRIVER=12000"]
    run(["g++", *options, *sorted(plugins.glob("kernels/cuda/*.cpp")), *arguments, "-ldl", "-o", library])
    return library


def compiled_for_cpu(library: Path, *arguments: object, plugins: Path = PLUGINS) -> Path:
    """With the sources of the folder `plugins`, and beside a stand-in for the driver named libcuda.so."""
    driver = stand_in(library.with_name("libcuda.so"), plugins)
    image, define = ON_CPU / "any.image", f'-DRMS_DEPLOY_LIBCUDA="{driver}"'
    return compiled_with_image(library, image, define, *arguments, plugins=plugins)


def compiled_for_gpu(library: Path, nvcc: Path, architecture: str, *arguments: object) -> Path:
    image = library.with_suffix(".fatbin")
    source = PLUGINS / "kernels" / "cuda" / "norm.cu"
    run([nvcc, "-std=c++17", "-O3", f"-arch={architecture}", f"-I{PLUGINS}", "-fatbin", source, "-o", image])
    return compiled_with_image(library, image, *arguments)


def kernels_for_cpu(library: Path, plugins: Path) -> Path:
    few_blocks = "-DRMS_DEPLOY_CUDA_MAX_BLOCKS=3"  # per launch, so that most cases need several launches
    return compiled_for_cpu(library, HERE / "entry.cpp", few_blocks, plugins=plugins)


def kernels_for_gpu(library: Path, nvcc: Path, architecture: str) -> Path:
    return compiled_for_gpu(library, nvcc, architecture, HERE / "entry.cpp")


def virtual_of(gpu: str) -> str:
    """The compute capability of the PTX that the build makes a GPU's machine code of."""
    return next(virtual for virtual in ("90", "80", "75") if int(gpu) >= int(virtual))


def ptx_of(nvcc: Path, virtual: str, to: Path, plugins: Path = PLUGINS) -> Path:
    """What nvcc writes for one compute capability."""
    options = ["-std=c++17", "-O3", f"-I{plugins}", "--Werror=all-warnings", f"-arch=compute_{virtual}", "-ptx"]
    run([nvcc, *options, plugins / "kernels/cuda/norm.cu", "-o", to])
    return to
