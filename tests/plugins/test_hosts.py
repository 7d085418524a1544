"""The compiled libraries, driven in one process as TensorRT and ONNX Runtime drive them, on a stand-in for the driver.

The stand-in takes machine code and PTX only where a driver of its version does, and computes on the CPU.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from rms_deploy.errors import InstallationError
from rms_deploy.libraries import onnxruntime_library, tensorrt_library

from .kernels.cuda.compiling import PLUGINS, run, stand_in

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
KERNEL = "norm_rows_1_float32"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """Runs both hosts in a process, on a driver of this version (as cuDriverGetVersion counts) with these GPUs."""
    try:
        libraries = [tensorrt_library(), onnxruntime_library()]
    except InstallationError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("hosts")
    stand_in(folder / "libcuda.so.1")
    options = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{PLUGINS}"]
    run(["g++", *options, HERE / "hosts" / "hosts.cpp", "-ldl", "-lpthread", "-o", folder / "hosts"])

    def drive(mode, driver=13000, gpus="90", *, has_driver=True, **variables):
        environment = {**os.environ, "STAND_IN_CUDA": str(driver), "STAND_IN_GPUS": gpus, **variables}
        if has_driver:
            environment["LD_LIBRARY_PATH"] = str(folder)
        command = [folder / "hosts", *libraries, mode]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    return drive


@pytest.fixture(scope="module")
def built_for_old_drivers(hosts):
    if any("the kernels need CUDA 13.0" in line for line in hosts("current", 12000)):
        pytest.skip("built without ptxas 12: pip install nvidia-cuda-nvcc-cu12")


BOTH = ["TensorRT: normed", "ONNX Runtime: normed"]
CAPTURED = ["TensorRT, captured: normed", "ONNX Runtime, captured: normed"]


@pytest.mark.usefixtures("built_for_old_drivers")
@pytest.mark.parametrize("driver", [12000, 12020, 12080, 13000])
def test_two_contexts_on_each_of_two_gpus(hosts, driver):
    """Each context runs the code of its own GPU, on a stream and captured into a graph."""
    lines = hosts("launch", driver, "90,86")
    assert lines[:16] == [*CAPTURED, *BOTH] * 4
    expected = []
    for context in range(4):
        device = context % 2
        launch = f"{KERNEL} sm_{(90, 86)[device]} device {device} context {context + 1}"
        expected += [f"{launch} captured", f"{launch} captured", launch, launch]
    assert lines[16:] == expected


CODES = {
    12000: {"75": "sm_75", "80": "sm_80", "86": "sm_86", "89": "sm_89", "90": "sm_90"},
    12080: {"75": "sm_75", "90": "sm_90", "100": "sm_100", "120": "sm_120"},
    13000: {"80": "sm_80", "103": "sm_100", "121": "sm_120", "150": "compute_90"},
}
"""By driver and GPU: the code that it takes. GPUs that are not yet known have PTX."""


@pytest.mark.usefixtures("built_for_old_drivers")
@pytest.mark.parametrize(("driver", "gpu"), [(driver, gpu) for driver, codes in CODES.items() for gpu in codes])
def test_the_code_that_a_gpu_takes(hosts, driver, gpu):
    lines = hosts("launch", driver, gpu)
    assert lines[:8] == [*CAPTURED, *BOTH] * 2
    assert {line.split()[1] for line in lines[8:]} == {CODES[driver][gpu]}


@pytest.mark.usefixtures("built_for_old_drivers")
@pytest.mark.parametrize("wanted", ["0", "1", None])
def test_launches_before_the_kernel_in_front_has_ended(hosts, wanted):
    """Only where it is asked for, and only of code that waits."""
    for gpu in ("86", "90", "103", "150"):
        variables = {} if wanted is None else {"RMS_DEPLOY_PROGRAMMATIC_LAUNCH": wanted}
        lines = hosts("launch", 13000, gpu, **variables)
        assert lines[:8] == [*CAPTURED, *BOTH] * 2
        assert {line.endswith(" early") for line in lines[8:]} == {wanted == "1" and gpu != "86"}, gpu


def test_a_thread_without_a_context_gets_one(hosts):
    assert hosts("current") == BOTH[::-1]


def test_processes_that_fork(hosts):
    """CUDA starts anew in a child whose parent has not used it. Where it has, the child gets an error that says so."""
    said = "the launch failed: CUDA was in use before this process was forked; start the process with spawn"
    assert hosts("fork") == [
        *("before", *BOTH[::-1], "child ends with 0", *BOTH[::-1]),
        *("after", "TensorRT: error 3", f"ONNX Runtime: RMSNorm node 'norm': {said} instead of fork"),
        *("child ends with 0", *BOTH[::-1]),
    ]


def session_error(lines):
    line, *others = lines
    assert all(other.startswith("TensorRT: error ") for other in others)
    start = "session: RMSNorm node 'norm': the kernels cannot be loaded: "
    assert line.startswith(start)
    return line.removeprefix(start)


def test_no_driver(hosts):
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("there is a driver here")
    assert session_error(hosts("current", has_driver=False)).startswith("there is no NVIDIA driver: libcuda.so.1: ")


@pytest.mark.usefixtures("built_for_old_drivers")
def test_a_driver_that_is_too_old(hosts):
    assert session_error(hosts("current", 11080)) == (
        "the NVIDIA driver is for CUDA 11.8, and the kernels need CUDA 12.0; install driver 525 or newer"
    )


def test_a_driver_that_finds_no_gpu(hosts):
    text = "the NVIDIA driver does not start: no CUDA-capable device is detected (CUresult 100)"
    assert session_error(hosts("current", gpus="")) == text


def test_a_gpu_that_is_too_old(hosts):
    assert session_error(hosts("launch", gpus="61")) == "no kernel image is available for execution on the device"
