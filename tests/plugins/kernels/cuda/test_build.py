"""What CMake makes of the CUDA tools that it finds: small scripts in their place, or the real ones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .compiling import HERE, PLUGINS, compiled_with_image, kernels_for_gpu, run, stand_in

pytestmark = pytest.mark.slow

OLD_GPUS, NEW_GPUS = (75, 80, 86, 87, 89, 90), (100, 110, 120)


@pytest.fixture
def tools(tmp_path):
    """Writes nvcc, ptxas and fatbinary of a release into a folder; ptxas knows these GPUs."""

    def write(release, gpus, *, compresses=True, works=True):
        folder = tmp_path / f"cuda-{release}"
        folder.mkdir()
        known = " ".join(f"'sm_{gpu}'," for gpu in gpus)
        mode = "--compress-mode [default,speed]" if compresses else ""
        scripts = {
            "nvcc": f'case $1 in --version) echo "release {release}, V";; *) exit {0 if works else 1};; esac',
            "ptxas": f'case $1 in --version) echo "release {release}, V";; --help) echo "Allowed: {known}";; esac',
            "fatbinary": f'echo "{mode}"',
        }
        for name, script in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        return folder

    return write


@pytest.fixture
def configured(tmp_path):
    """What CMake says of us with an nvcc (None: it looks for one), and the text of the files that it writes."""
    if shutil.which("cmake") is None:
        pytest.skip("no cmake")

    def configure(nvcc, *arguments):
        folder = tmp_path / "build"
        command = ["cmake", "-S", PLUGINS.parent, "-B", folder, "-G", "Unix Makefiles"]
        environment = {key: value for key, value in os.environ.items() if key not in ("CUDACXX", "CUDAHOSTCXX")}
        options = [*arguments] if nvcc is None else [f"-DCMAKE_CUDA_COMPILER={nvcc}", *arguments]
        done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said = re.findall(r"^rms-deploy: (.*)$", done.stdout + done.stderr, re.MULTILINE)
        files = [*folder.rglob("build.make"), *folder.rglob("flags.make")]
        return said, "\n".join(path.read_text() for path in files)

    return configure


def test_a_toolkit_that_knows_every_gpu(tools, configured):
    said, text = configured(tools("12.9", (*OLD_GPUS, *NEW_GPUS)) / "nvcc")
    assert said == []
    assert "RMS_DEPLOY_CUDA_DRIVER=12000" in text
    assert "--compress-mode=speed" in text
    assert {"7.0", "7.8"} == set(re.findall(r"\.version (\d\.\d)", text))
    assert {"75", "80", "86", "89", "90", "100", "120"} <= set(re.findall(r"-arch=sm_(\d+)", text))


def test_the_toolkit_of_jetpack_6(tools, configured):
    said, text = configured(tools("12.6", OLD_GPUS, compresses=False) / "nvcc", "-DCMAKE_CUDA_ARCHITECTURES=80;87;110")
    assert said == [
        "no machine code for compute capability 110: no ptxas here knows it; its driver compiles the kernels' PTX when "
        "they are first loaded"
    ]
    assert "RMS_DEPLOY_CUDA_DRIVER=12000" in text
    assert "--compress-mode" not in text
    assert set(re.findall(r"-arch=sm_(\d+)", text)) == {"80", "87"}


def test_cuda_13_with_the_assembler_of_cuda_12(tools, configured):
    """That of CUDA 13 assembles what only new drivers run."""
    old, new = tools("12.9", OLD_GPUS), tools("13.0", (*OLD_GPUS, *NEW_GPUS))
    said, text = configured(
        new / "nvcc", f"-DRMS_DEPLOY_PTXAS_12={old / 'ptxas'}", "-DCMAKE_CUDA_ARCHITECTURES=75;90;110"
    )
    assert said == []
    assert "RMS_DEPLOY_CUDA_DRIVER=12000" in text
    assert set(re.findall(r"(\S+)/ptxas -O3 -arch=sm_(\d+)", text)) == {
        (str(old), "75"),
        (str(old), "90"),
        (str(new), "110"),
    }


def test_cuda_13_alone(tools, configured):
    new = tools("13.0", (*OLD_GPUS, *NEW_GPUS))
    said, text = configured(new / "nvcc")
    assert said == [
        f"the CUDA kernels need driver 580: {new / 'ptxas'} is release 13.0; for drivers from 525 on, install "
        "nvidia-cuda-nvcc-cu12==12.9.*"
    ]
    assert "RMS_DEPLOY_CUDA_DRIVER=13000" in text


def test_a_toolkit_that_is_too_old(tools, configured):
    nvcc = tools("11.8", OLD_GPUS) / "nvcc"
    said, text = configured(nvcc)
    assert said == [f"built without CUDA: {nvcc} is release '11.8'; use 12.0 or newer"]
    assert "RMS_DEPLOY_CUDA_DRIVER" not in text


def test_a_toolkit_that_refuses_the_compiler(tools, configured):
    (said,), _ = configured(tools("12.6", OLD_GPUS, works=False) / "nvcc")
    assert re.fullmatch(
        r"built without CUDA: .*/nvcc does not work with .*; set CUDAHOSTCXX to a C\+\+ compiler .*", said
    )


def test_no_toolkit(configured):
    folders = [*map(Path, os.environ["PATH"].split(os.pathsep)), Path("/usr/local/bin"), Path("/usr/local/cuda/bin")]
    with_nvcc = ";".join(str(folder) for folder in folders if (folder / "nvcc").exists())
    said, text = configured(None, f"-DCMAKE_IGNORE_PATH={with_nvcc}")
    assert said == ["built without CUDA: no nvcc; install nvidia-cuda-nvcc or a CUDA toolkit, or set CUDACXX"]
    assert "RMS_DEPLOY_HAS_CUDA" not in text


def test_half_a_toolkit(tools, configured):
    folder = tools("12.6", OLD_GPUS)
    (folder / "fatbinary").unlink()
    (said,), _ = configured(folder / "nvcc")
    assert said.startswith(
        f"built without CUDA: no fatbinary beside {folder / 'nvcc'}; install all of the CUDA toolkit"
    )


SCRIPT = """
import ctypes, sys
sys.path.insert(0, {folder!r})
import numpy as np
from driver import Kernels
Kernels({library!r}).norm(np.ones((2, 8), np.float32), np.ones(8, np.float32))
launches = ctypes.create_string_buffer(4096)
assert ctypes.CDLL("libcuda.so.1").take_launches(launches, 16) == 1
print(launches.raw[48:64].rstrip(b"\\0").decode())
"""


def launched(library, driver, gpu):
    """The code that a GPU takes out of a library, on the stand-in for a driver of this version; or the last line."""
    folder = library.parent
    if not (folder / "libcuda.so.1").exists():
        stand_in(folder / "libcuda.so.1")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "STAND_IN_CUDA": driver, "STAND_IN_GPUS": gpu}
    script = SCRIPT.format(folder=str(HERE), library=str(library))
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).splitlines()[-1]


def test_the_gpus_of_jetson_have_code_of_their_own(nvcc, configured, tmp_path):
    """With the tools of this machine, from CMake's image to a launch."""
    prefix = next((p for p in map(Path, sys.path) if (p / "nvidia/cuda_nvcc/bin/ptxas").exists()), tmp_path)
    configured(nvcc, f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_CUDA_ARCHITECTURES=75;87;110")
    run(["cmake", "--build", tmp_path / "build", "--target", "rms_deploy_cuda"])
    image = tmp_path / "build/plugins/cuda/kernels.fatbin"
    library = compiled_with_image(tmp_path / "kernels.so", image, HERE / "entry.cpp")
    for gpu, code in (("87", "sm_87"), ("110", "sm_110"), ("88", "compute_80"), ("90", "compute_90")):
        assert launched(library, "13000", gpu) == code


def test_an_old_driver_refuses_what_cuda_13_makes_by_itself(nvcc, tmp_path):
    """The stand-in is as strict as the drivers."""
    if " release 13." not in run([nvcc, "--version"]):
        pytest.skip(f"{nvcc} is not of CUDA 13")
    library = kernels_for_gpu(tmp_path / "kernels.so", nvcc, "sm_80")
    assert launched(library, "12080", "80") == "AssertionError: device kernel image is invalid"
    assert launched(library, "13000", "80") == "sm_80"
