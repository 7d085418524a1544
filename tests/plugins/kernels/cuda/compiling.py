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


def compiled_with_image(
    library: Path, image: Path, *arguments: object, gradient_image: Path | None = None, plugins: Path = PLUGINS
) -> Path:
    """The kernels' side of the host around a fat binary, and `arguments`: sources and options.

    With the side of the gradients around theirs, where there is one.
    """
    options = ["-std=c++17", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-Wl,--no-undefined"]
    options += [f"-I{plugins}", f'-DRMS_DEPLOY_CUDA_IMAGE="{image}"', "-DRMS_DEPLOY_CUDA_DRIVER=12000"]
    sources = sorted(plugins.glob("kernels/cuda/*.cpp"))
    if gradient_image is None:
        sources = [source for source in sources if not source.name.startswith("gradient")]
    else:
        options.append(f'-DRMS_DEPLOY_CUDA_GRADIENT_IMAGE="{gradient_image}"')
    run(["g++", *options, *sources, *arguments, "-ldl", "-o", library])
    return library


def compiled_for_cpu(library: Path, *arguments: object, gradient: bool = False, plugins: Path = PLUGINS) -> Path:
    """With the sources of the folder `plugins`, and beside a stand-in for the driver named libcuda.so."""
    driver = stand_in(library.with_name("libcuda.so"), plugins)
    image, define = ON_CPU / "any.image", f'-DRMS_DEPLOY_LIBCUDA="{driver}"'
    gradient_image = image if gradient else None
    return compiled_with_image(library, image, define, *arguments, gradient_image=gradient_image, plugins=plugins)


def compiled_for_gpu(library: Path, nvcc: Path, architecture: str, *arguments: object, gradient: bool = False) -> Path:
    options = ["-std=c++17", "-O3", f"-arch={architecture}", f"-I{PLUGINS}", "-fatbin"]
    images = {}
    for name in ("norm", "gradient") if gradient else ("norm",):
        images[name] = library.with_name(f"{library.stem}-{name}.fatbin")
        run([nvcc, *options, PLUGINS / f"kernels/cuda/{name}.cu", "-o", images[name]])
    return compiled_with_image(library, images["norm"], *arguments, gradient_image=images.get("gradient"))


def entries(plugins: Path) -> list[Path]:
    """The C functions that the tests call."""
    return [HERE / "entry.cpp", HERE / "gradient_entry.cpp", plugins / "torch/cuda.cpp"]


def kernels_for_cpu(library: Path, plugins: Path) -> Path:
    few_blocks = "-DRMS_DEPLOY_CUDA_MAX_BLOCKS=3"  # per launch, so that most cases need several launches
    return compiled_for_cpu(library, *entries(plugins), few_blocks, gradient=True, plugins=plugins)


def kernels_for_gpu(library: Path, nvcc: Path, architecture: str) -> Path:
    return compiled_for_gpu(library, nvcc, architecture, *entries(PLUGINS), gradient=True)


def virtual_of(gpu: str) -> str:
    """The compute capability of the PTX that the build makes a GPU's machine code of."""
    return next(virtual for virtual in ("90", "80", "75") if int(gpu) >= int(virtual))


def ptx_of(nvcc: Path, virtual: str, to: Path, plugins: Path = PLUGINS, source: str = "norm") -> Path:
    """What nvcc writes of the norms, or of their gradients, for one compute capability."""
    options = ["-std=c++17", "-O3", f"-I{plugins}", "--Werror=all-warnings", f"-arch=compute_{virtual}", "-ptx"]
    run([nvcc, *options, plugins / f"kernels/cuda/{source}.cu", "-o", to])
    return to
