"""Where there is no GPU, or nothing that allocates its memory; and on a GPU, copies and a graph."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from rms_deploy.errors import InstallationError, MissingDependencyError
from rms_deploy.runtime import cuda_device
from rms_deploy.runtime.gpus import Gpu, gpus


@pytest.mark.parametrize("problem", ["", "the NVIDIA driver is for CUDA 11.4"])
def test_a_driver_that_refuses(problem, monkeypatch):
    """The driver's own reason, where it has one; else it is cuda-python that is too new for it."""
    monkeypatch.setattr(cuda_device, "gpu_problem", lambda: problem)
    monkeypatch.setattr(cuda_device, "gpus", lambda: (Gpu("a GPU", "sm90", 1, "535.104 (CUDA 12.2)"),))
    error = SimpleNamespace(name="cudaErrorInsufficientDriver")
    refusing = SimpleNamespace(cudaGetDeviceCount=lambda: (error, None), cudaError_t=SimpleNamespace(cudaSuccess=0))
    monkeypatch.setattr(cuda_device, "import_module", lambda _name: refusing)
    with pytest.raises(InstallationError, match=r"; engines of TensorRT run on a GPU only$") as raised:
        cuda_device.cuda_device()
    ours = "cuda-python cannot use the NVIDIA driver 535.104 (CUDA 12.2) (cudaErrorInsufficientDriver); install"
    assert str(raised.value).startswith(problem or ours)


def test_no_driver(monkeypatch):
    def count():
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    monkeypatch.setattr(cuda_device, "import_module", lambda _name: SimpleNamespace(cudaGetDeviceCount=count))
    monkeypatch.setattr(cuda_device, "gpu_problem", lambda: "there is no driver")
    with pytest.raises(InstallationError, match=r"^there is no driver; engines of TensorRT run on a GPU only$"):
        cuda_device.cuda_device()


def test_nothing_that_allocates_memory_of_the_gpu(monkeypatch):
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime", "cuda.cudart", "torch"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(cuda_device, "gpu_problem", str)
    with pytest.raises(MissingDependencyError, match=r"needs one of them; run: pip install cuda-python"):
        cuda_device.cuda_device()


def test_the_time_of_the_gpu_is_that_between_two_events(monkeypatch):
    """With a runtime that counts what is put on its stream, a millisecond and a half each."""
    stream, known = [], {}

    def create():
        known[len(known)] = None
        return 0, len(known) - 1

    def record(event, _stream):
        known[event] = len(stream)
        return (0,)

    functions = {
        "cudaGetDeviceCount": lambda: (0, 1),
        "cudaStreamCreate": lambda: (0, 7),
        "cudaEventCreate": create,
        "cudaEventRecord": record,
        "cudaEventSynchronize": lambda _: (0,),
        "cudaEventElapsedTime": lambda begin, end: (0, 1.5 * (known[end] - known[begin])),
        "cudaEventDestroy": lambda event: (known.pop(event), (0,))[1],
    }
    runtime = SimpleNamespace(**functions, cudaError_t=SimpleNamespace(cudaSuccess=0))
    monkeypatch.setattr(cuda_device, "import_module", lambda _name: runtime)
    device = cuda_device.cuda_device()
    assert device.elapsed(lambda: stream.extend("ab")) == 3000.0
    assert not known, "events that are left"
    with pytest.raises(ZeroDivisionError):
        device.elapsed(lambda: 1 / 0)
    assert not known


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


@pytest.mark.gpu
@pytest.mark.skipif(not gpus(), reason="there is no GPU here")
def test_a_copy_takes_time_on_the_gpu():
    device = cuda_device.cuda_device()
    sent = np.zeros(2**24, np.uint8)
    buffer = device.allocate(sent.nbytes)
    assert device.elapsed(lambda: device.upload(buffer, sent)) > device.elapsed(lambda: None) >= 0
