"""ptxas keeps everything in registers: no spills and no local memory, in any kernel."""

from __future__ import annotations

import re

import pytest
from conftest import PLUGINS, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
def test_no_kernel_spills(nvcc, tmp_path, architecture):
    """The oldest, and the one whose targets the README names; the build compiles for all."""
    options = ["-std=c++17", "-O3", f"-I{PLUGINS}", "-Xptxas", "-v", "-cubin", f"-arch={architecture}"]
    log = run([nvcc, *options, PLUGINS / "kernels/cuda/norm.cu", "-o", tmp_path / "norm.cubin"])
    kernels = re.findall(r"Compiling entry function '(\S+)'", log)
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert len(kernels) == 21  # 7 for each element type
    assert len(frames) >= len(kernels)
    assert set(frames) == {("0", "0", "0")}, log
    assert "lmem" not in log
