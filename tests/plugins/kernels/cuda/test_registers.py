"""What can be known of the native library without a GPU: it compiles, and ptxas keeps everything in registers."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from .compiling import HERE, PLUGINS, kernels_for_gpu, run

pytestmark = pytest.mark.slow


def test_no_kernel_spills(nvcc, tmp_path):
    """With the options of the build, for every GPU that it compiles for."""
    targets = re.findall(r"-gencode=[^\s\"]+", (PLUGINS / "CMakeLists.txt").read_text())
    options = ["-std=c++17", "-O3", f"-I{PLUGINS}", "-Xptxas", "-v", "--threads=2", "--Werror=all-warnings", *targets]
    log = run([nvcc, *options, "-c", PLUGINS / "kernels/cuda/norm.cu", "-o", tmp_path / "norm.o"])
    compiled = re.findall(r"Compiling entry function '\S+' for '(\w+)'", log)
    for architecture in ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"):
        assert compiled.count(architecture) == 21  # 7 kernels for each element type
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert len(frames) >= len(compiled)
    assert set(frames) == {("0", "0", "0")}, log
    assert "lmem" not in log


def test_without_a_gpu_a_launch_returns_an_error(nvcc, tmp_path):
    """In a process of its own. On a machine with a GPU it succeeds or names the missing architecture."""
    library = kernels_for_gpu(tmp_path / "norm.so", nvcc, "sm_75")
    script = (
        f"import sys; sys.path.insert(0, {str(HERE)!r}); import numpy as np; from driver import Kernels\n"
        f"kernels = Kernels({str(library)!r}); ones = np.ones((2, 8), np.float32); kernels.norm(ones, ones[0])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0 or "cudaError_t" in result.stderr.splitlines()[-1]
