"""The CUDA kernels as the tests call them: compiled by g++ for the CPU, or by nvcc for the GPU of this machine.

Or by nvcc into PTX, which the interpreter of ptx/ executes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from .compiling import PLUGINS, kernels_for_cpu, kernels_for_gpu, ptx_of, skip_without_gpu
from .ptx.device import Interpreted
from .ptx.program import Program


@pytest.fixture(scope="session")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kernels_for_cpu(tmp_path_factory.mktemp("kernels") / "on_cpu.so", PLUGINS)


@pytest.fixture(scope="session")
def on_gpu(tmp_path_factory: pytest.TempPathFactory, nvcc: Path) -> Path:
    skip_without_gpu()
    return kernels_for_gpu(tmp_path_factory.mktemp("kernels") / "on_gpu.so", nvcc, "native")


@pytest.fixture(scope="session")
def ptx(nvcc: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The PTX of the build, for one compute capability."""
    folder = tmp_path_factory.mktemp("ptx")
    return cache(lambda virtual: ptx_of(nvcc, virtual, folder / f"{virtual}.ptx"))


@pytest.fixture(scope="session")
def gradient_ptx(nvcc: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The same of the backward pass."""
    folder = tmp_path_factory.mktemp("gradient-ptx")
    return cache(lambda virtual: ptx_of(nvcc, virtual, folder / f"{virtual}.ptx", source="gradient"))


@pytest.fixture(scope="session")
def interpreted_gradient(on_cpu: Path, gradient_ptx: Callable[[str], Path]) -> Interpreted:
    return Interpreted(on_cpu, Program.parse(gradient_ptx("80").read_text()))


@pytest.fixture(scope="session")
def interpreted(on_cpu: Path, ptx: Callable[[str], Path]) -> Interpreted:
    return Interpreted(on_cpu, Program.parse(ptx("80").read_text()))
