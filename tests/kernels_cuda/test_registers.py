"""What can be known of the native library without a GPU: it compiles, and ptxas keeps everything in registers."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from conftest import HERE, PLUGINS, compiled_for_gpu, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
def test_no_kernel_spills(nvcc, tmp_path, architecture):
    """The oldest, and the one whose targets the README names; the build compiles for all."""
    options = [
        "-std=c++17",
        "-O3",
        f"-I{PLUGINS}",
        "-Xptxas",
        "-v",
        "-cubin",
        "--Werror=all-warnings",
        f"-arch={architecture}",
    ]
    log = run([nvcc, *options, PLUGINS / "kernels/cuda/norm.cu", "-o", tmp_path / "norm.cubin"])
    kernels = re.findall(r"Compiling entry function '(\S+)'", log)
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert len(kernels) == 21  # 7 for each element type
    assert len(frames) >= len(kernels)
    assert set(frames) == {("0", "0", "0")}, log
    assert "lmem" not in log


def test_without_a_gpu_a_launch_returns_an_error(nvcc, tmp_path):
    """In a process of its own. On a machine with a GPU it succeeds or names the missing architecture."""
    library = compiled_for_gpu(tmp_path / "norm.so", nvcc, "sm_75")
    script = (
        f"import sys; sys.path.insert(0, {str(HERE)!r}); import numpy as np; from driver import Kernels\n"
        f"kernels = Kernels({str(library)!r}); ones = np.ones((2, 8), np.float32); kernels.norm(ones, ones[0])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0 or "cudaError_t" in result.stderr.splitlines()[-1]
