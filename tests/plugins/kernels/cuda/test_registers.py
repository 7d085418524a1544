"""What can be known of the native library without a GPU: it compiles, and ptxas keeps everything in registers."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from .compiling import HERE, PLUGINS, kernels_for_gpu, run, virtual_of

pytestmark = pytest.mark.slow


GPUS = ("75", "80", "86", "87", "89", "90", "100", "103", "110", "120", "121")


@pytest.mark.parametrize("gpu", GPUS)
def test_no_kernel_spills(ptx, nvcc, gpu):
    """For every GPU that the build compiles for, and those that run the code of a lower minor number.

    But for one word of a thread, in one of the five ways in which `norm_rows_4` writes 16-bit rows, on 12.0 and 12.1.
    """
    log = run([nvcc.with_name("ptxas"), "-v", "-O3", f"-arch=sm_{gpu}", ptx(virtual_of(gpu)), "-o", "/dev/null"])
    assert log.count("Compiling entry function") == 41  # 13 kernels of float32, 14 of each other type
    frame = r"properties for (\w+)\n\s*(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    frames = re.findall(frame, log)
    assert len(frames) >= 41
    spilled = {name: (stored, loaded) for name, size, stored, loaded in frames if size != "0"}
    one_word = dict.fromkeys(("norm_rows_4_float16", "norm_rows_4_bfloat16"), ("4", "4"))
    assert spilled.items() <= (one_word if gpu in ("120", "121") else {}).items(), log
    assert "lmem" not in log
    pattern = r"function '(norm_columns_[248]_\w+|norm_gated_rows_\w+|norm_general_rows_\w+)'.*?Used (\d+) registers"
    registers = re.findall(pattern, log, re.DOTALL)
    assert len(registers) == 14  # a block of 1024 threads, or two blocks of 512, have 64 for each
    assert max(int(number) for _, number in registers) <= 64


@pytest.mark.parametrize("gpu", GPUS)
def test_no_kernel_of_the_gradients_spills(gradient_ptx, nvcc, gpu):
    source = gradient_ptx(virtual_of(gpu))
    log = run([nvcc.with_name("ptxas"), "-v", "-O3", f"-arch=sm_{gpu}", source, "-o", "/dev/null"])
    assert log.count("Compiling entry function") == 12  # 4 kernels of each type
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert len(frames) >= 12
    assert set(frames) == {("0", "0", "0")}, log
    assert "lmem" not in log


def test_the_build_compiles_for_the_gpus_that_are_tested():
    text = (PLUGINS / "CMakeLists.txt").read_text()
    assert set(re.findall(r"\d+", " ".join(re.findall(r"CMAKE_CUDA_ARCHITECTURES ([\d ]+)\)", text)))) <= set(GPUS)


def test_without_a_gpu_a_launch_returns_an_error(nvcc, tmp_path):
    """In a process of its own. On a machine with a GPU it succeeds or names the missing architecture."""
    library = kernels_for_gpu(tmp_path / "norm.so", nvcc, "sm_75")
    script = (
        f"import sys; sys.path.insert(0, {str(HERE)!r}); import numpy as np; from driver import Kernels\n"
        f"kernels = Kernels({str(library)!r}); ones = np.ones((2, 8), np.float32); kernels.norm(ones, ones[0])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    errors = ("AssertionError: there is no NVIDIA driver: libcuda.so.1: ", "AssertionError: no kernel image")
    assert result.returncode == 0 or result.stderr.splitlines()[-1].startswith(errors)
