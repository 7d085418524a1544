"""What is read from the driver, of which an object or the stand-in of the CUDA tests takes the place."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rms_deploy.runtime import gpus as module
from rms_deploy.runtime.gpus import Gpu, gpu_problem, gpus

from ..plugins.kernels.cuda.compiling import stand_in


class Cuda:
    """libcuda, with GPUs of these names and compute capabilities."""

    def __init__(self, *listed, version=13000, error=0):
        self.listed, self.version, self.error = listed, version, error

    def __call__(self, name):
        assert name == "libcuda.so.1"
        return self

    def cuInit(self, _flags):  # noqa: N802 - its name in the driver
        return self.error

    def cuDriverGetVersion(self, to):  # noqa: N802 - its name in the driver
        to._obj.value = self.version

    def cuDeviceGetCount(self, to):  # noqa: N802 - its name in the driver
        to._obj.value = len(self.listed)

    def cuDeviceGet(self, to, ordinal):  # noqa: N802 - its name in the driver
        to._obj.value = 10 + ordinal

    def cuDeviceGetName(self, to, _size, device):  # noqa: N802 - its name in the driver
        to.value = self.listed[device - 10][0].encode()

    def cuDeviceTotalMem_v2(self, to, _device):  # noqa: N802 - its name in the driver
        to._obj.value = 24 << 30

    def cuDeviceGetAttribute(self, to, attribute, device):  # noqa: N802 - its name in the driver
        to._obj.value = self.listed[device - 10][1][attribute - 75]

    def cuGetErrorString(self, _error, to):  # noqa: N802 - its name in the driver
        to._obj.value = b"no CUDA-capable device is detected"


@pytest.fixture
def driver(monkeypatch, tmp_path):
    """Sets what libcuda is, and what the kernel module says."""

    def is_(cuda, module_text=None):
        monkeypatch.setattr(ctypes, "CDLL", cuda)
        monkeypatch.setattr(module, "_KERNEL_MODULE", tmp_path / "version")
        if module_text is not None:
            (tmp_path / "version").write_text(module_text)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return is_


PROPRIETARY = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 07:26:38 UTC 2025\nGCC version: 12"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.2.0  Release Build\n"


@pytest.mark.parametrize(("text", "number"), [(PROPRIETARY, "580.65.06"), (OPEN, "540.2.0")])
def test_each_gpu(driver, text, number):
    driver(Cuda(("NVIDIA H200", (9, 0)), ("Orin", (8, 7))), text)
    full = f"{number} (CUDA 13.0)"
    assert gpus() == (Gpu("NVIDIA H200", "sm90", 24576, full), Gpu("Orin", "sm87", 24576, full))
    assert gpu_problem() == ""


def test_a_system_that_does_not_say_the_drivers_number(driver):
    driver(Cuda(("RTX 4090", (8, 9)), version=12040))
    assert gpus() == (Gpu("RTX 4090", "sm89", 24576, "CUDA 12.4"),)


def test_a_driver_that_is_too_old_lists_its_gpus_and_both_versions(driver):
    driver(Cuda(("A100", (8, 0)), version=11080), PROPRIETARY.replace("580.65.06", "520.61.05"))
    assert [gpu.capability for gpu in gpus()] == ["sm80"]
    assert gpu_problem() == (
        "the NVIDIA driver is 520.61.05 (CUDA 11.8); our kernels need CUDA 12.0: install driver 525 or newer"
    )


def test_gpus_that_are_hidden(driver, monkeypatch):
    driver(Cuda(error=100))
    said = "the NVIDIA driver CUDA 13.0 finds no GPU that it can use: no CUDA-capable device is detected"
    assert (gpus(), gpu_problem()) == ((), said)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_problem() == f"{said}; CUDA_VISIBLE_DEVICES is ''"


def test_a_driver_without_gpus(driver):
    driver(Cuda())
    assert (gpus(), gpu_problem()) == ((), "the NVIDIA driver CUDA 13.0 lists no GPU")


def missing(name):
    raise OSError(f"{name}: cannot open shared object file")


def test_no_driver(driver):
    driver(missing)
    assert gpus() == ()
    assert gpu_problem() == "there is no NVIDIA driver here (libcuda.so.1: cannot open shared object file)"


def test_a_container_that_was_started_without_the_gpus(driver):
    driver(missing, PROPRIETARY)
    assert gpus() == ()
    assert gpu_problem().startswith("the NVIDIA driver 580.65.06 of this machine cannot be used here (libcuda.so.1: ")


SCRIPT = """
import dataclasses, json
from rms_deploy.runtime.gpus import gpu_problem, gpus
print(json.dumps([[dataclasses.asdict(gpu) for gpu in gpus()], gpu_problem()]))
"""


@pytest.mark.slow
def test_a_library_that_the_system_finds(tmp_path):
    """The signatures, as C sees them."""
    stand_in(tmp_path / "libcuda.so.1")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "STAND_IN_CUDA": "12080", "STAND_IN_GPUS": "87,120"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    found, problem = json.loads(done.stdout)
    assert [(gpu["name"], gpu["capability"], gpu["memory_mib"]) for gpu in found] == [
        ("Stand-in 0", "sm87", 16384),
        ("Stand-in 1", "sm120", 16384),
    ]
    assert problem == ""
    release = Path("/proc/driver/nvidia/version").exists()
    assert release or found[0]["driver"] == "CUDA 12.8"
