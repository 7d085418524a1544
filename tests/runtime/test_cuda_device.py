"""Where there is no GPU, or nothing that allocates its memory; and on a GPU, copies and a graph."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from rms_deploy.errors import InstallationError, MissingDependencyError
from rms_deploy.runtime import cuda_device
from rms_deploy.runtime.gpus import Gpu, gpus


def test_a_driver_that_refuses(monkeypatch):
    error = SimpleNamespace(name="cudaErrorInsufficientDriver")
    refusing = SimpleNamespace(cudaGetDeviceCount=lambda: (error, None), cudaError_t=SimpleNamespace(cudaSuccess=0))
    monkeypatch.setattr(cuda_device, "import_module", lambda _name: refusing)
    with pytest.raises(InstallationError, match=r"there is no GPU here \(cudaErrorInsufficientDriver\)"):
        cuda_device.cuda_device()


def test_no_driver(monkeypatch):
    def count():
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    monkeypatch.setattr(cuda_device, "import_module", lambda _name: SimpleNamespace(cudaGetDeviceCount=count))
    with pytest.raises(InstallationError, match=r"there is no GPU here \(Failed to dlopen libcuda.so.1\); engines"):
        cuda_device.cuda_device()


def test_nothing_that_allocates_memory_of_the_gpu(monkeypatch):
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime", "cuda.cudart", "torch"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(cuda_device, "gpus", lambda: (Gpu("a GPU", "sm120", 1, "1"),))
    with pytest.raises(MissingDependencyError, match=r"needs one of them; run: pip install cuda-python"):
        cuda_device.cuda_device()


@pytest.mark.gpu
@pytest.mark.skipif(not gpus(), reason="there is no GPU here")
def test_what_goes_up_comes_down():
    device = cuda_device.cuda_device()
    sent = np.arange(1000, dtype=np.float32)
    received = np.zeros_like(sent)
    buffer = device.allocate(sent.nbytes)
    device.upload(buffer, sent)
    device.download(received, buffer)
    device.synchronize()
    np.testing.assert_array_equal(received, sent)
