"""Memory, a stream and graphs of a CUDA GPU, through cuda-python or torch, whichever is there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rms_deploy.errors import InstallationError, MissingDependencyError, RunError
from rms_deploy.runtime.gpus import gpu_problem, gpus

__all__ = ["Buffer", "CudaDevice", "cuda_device"]


class Buffer(Protocol):
    """Memory of the device; freed with the object."""

    address: int
    nbytes: int


class CudaDevice(Protocol):
    """The current GPU with one stream of ours. All calls but `synchronize` and `elapsed` only enqueue."""

    stream: int
    """The handle, as a number."""

    def allocate(self, nbytes: int) -> Buffer:
        """Memory of at least `nbytes` bytes."""

    def upload(self, buffer: Buffer, array: NDArray[Any]) -> None:
        """Copy a contiguous array, which must live until `synchronize`."""

    def download(self, array: NDArray[Any], buffer: Buffer) -> None:
        """Fill a contiguous array."""

    def synchronize(self) -> None:
        """Wait for the stream, and report what failed in it."""

    def capture(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        """Record what `enqueue` puts on the stream as a graph, and return a function that launches it."""

    def elapsed(self, enqueue: Callable[[], None]) -> float:
        """Microseconds that the GPU takes for what `enqueue` puts on the stream; waits for its end."""


def cuda_device() -> CudaDevice:
    """The current GPU.

    Raises:
        InstallationError: none can be used; the error says why.
        MissingDependencyError: neither cuda-python nor a torch with CUDA is installed.
    """
    for name in ("cuda.bindings.runtime", "cuda.cudart"):  # since and before cuda-python 12.6
        with suppress(ImportError):
            return _CudaPython(import_module(name))
    with suppress(ImportError):
        torch = import_module("torch")
        if torch.cuda.is_available():
            return _Torch(torch)
    if problem := gpu_problem():
        raise InstallationError(f"{problem}; engines of TensorRT run on a GPU only")
    raise MissingDependencyError(
        "neither cuda-python nor torch with CUDA is installed, and an engine needs one of them; "
        "run: pip install cuda-python"
    )


class _CudaPython:
    """The CUDA runtime by its Python bindings: each function gives an error, then its results."""

    def __init__(self, cudart: Any) -> None:
        self._cudart = cudart
        try:
            error, *counted = cudart.cudaGetDeviceCount()
        except RuntimeError as missing:  # what older versions of cuda-python make of a machine without a driver
            raise InstallationError(_why_not(str(missing))) from missing
        if error != cudart.cudaError_t.cudaSuccess or not counted[0]:
            raise InstallationError(_why_not(error.name))
        self._stream = self._call("cudaStreamCreate")
        self.stream = int(self._stream)

    def allocate(self, nbytes: int) -> Buffer:
        return _CudaBuffer(self._cudart, self._call("cudaMalloc", max(nbytes, 1)), nbytes)

    def upload(self, buffer: Buffer, array: NDArray[Any]) -> None:
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", buffer.address, array.ctypes.data, array.nbytes, kind, self._stream)

    def download(self, array: NDArray[Any], buffer: Buffer) -> None:
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", array.ctypes.data, buffer.address, array.nbytes, kind, self._stream)

    def synchronize(self) -> None:
        self._call("cudaStreamSynchronize", self._stream)

    def capture(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        mode = self._cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._stream, mode)
        try:
            enqueue()
        finally:
            graph = self._call("cudaStreamEndCapture", self._stream)
        executable = self._call("cudaGraphInstantiate", graph, 0)
        self._call("cudaGraphDestroy", graph)

        def launch() -> None:
            self._call("cudaGraphLaunch", executable, self._stream)

        return launch

    def elapsed(self, enqueue: Callable[[], None]) -> float:
        begin, end = self._call("cudaEventCreate"), self._call("cudaEventCreate")
        try:
            self._call("cudaEventRecord", begin, self._stream)
            enqueue()
            self._call("cudaEventRecord", end, self._stream)
            self._call("cudaEventSynchronize", end)
            return float(self._call("cudaEventElapsedTime", begin, end)) * 1000  # it counts milliseconds
        finally:
            self._call("cudaEventDestroy", begin)
            self._call("cudaEventDestroy", end)

    def _call(self, function: str, *arguments: Any) -> Any:
        error, *results = getattr(self._cudart, function)(*arguments)
        if error != self._cudart.cudaError_t.cudaSuccess:
            raise RunError(f"{function} failed: {error.name}")
        return results[0] if results else None


def _why_not(error: str) -> str:
    """What is wrong with the driver; or with cuda-python, which may need a newer driver than we do."""
    problem = gpu_problem() or (
        f"cuda-python cannot use the NVIDIA driver {gpus()[0].driver} ({error}); "
        "install a cuda-python of that CUDA or older"
    )
    return f"{problem}; engines of TensorRT run on a GPU only"


class _CudaBuffer:
    def __init__(self, cudart: Any, address: int, nbytes: int) -> None:
        self._cudart, self.address, self.nbytes = cudart, int(address), nbytes

    def __del__(self) -> None:
        self._cudart.cudaFree(self.address)


class _Torch:
    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._stream = torch.cuda.Stream()
        self.stream = int(self._stream.cuda_stream)

    def allocate(self, nbytes: int) -> Buffer:
        with self._torch.cuda.stream(self._stream):
            return _TorchBuffer(self._torch.empty(max(nbytes, 1), dtype=self._torch.uint8, device="cuda"), nbytes)

    def upload(self, buffer: Buffer, array: NDArray[Any]) -> None:
        assert isinstance(buffer, _TorchBuffer)
        with self._torch.cuda.stream(self._stream):
            buffer.tensor[: array.nbytes].copy_(self._bytes(array), non_blocking=True)

    def download(self, array: NDArray[Any], buffer: Buffer) -> None:
        assert isinstance(buffer, _TorchBuffer)
        with self._torch.cuda.stream(self._stream):
            self._bytes(array).copy_(buffer.tensor[: array.nbytes])

    def synchronize(self) -> None:
        self._stream.synchronize()

    def capture(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        graph = self._torch.cuda.CUDAGraph()
        with self._torch.cuda.graph(graph, stream=self._stream):
            enqueue()

        def launch() -> None:
            with self._torch.cuda.stream(self._stream):
                graph.replay()

        return launch

    def elapsed(self, enqueue: Callable[[], None]) -> float:
        begin, end = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record(self._stream)
        enqueue()
        end.record(self._stream)
        end.synchronize()
        return float(begin.elapsed_time(end)) * 1000  # it counts milliseconds

    def _bytes(self, array: NDArray[Any]) -> Any:
        flat = array.reshape(-1).view(np.uint8)
        # torch warns of read-only memory, because a tensor may be written to; a copy avoids the warning.
        return self._torch.from_numpy(flat if flat.flags.writeable else flat.copy())


class _TorchBuffer:
    def __init__(self, tensor: Any, nbytes: int) -> None:
        self.tensor, self.address, self.nbytes = tensor, int(tensor.data_ptr()), nbytes
