"""TensorRT and TensorRT-RTX: a session that runs an engine, used as the session of ONNX Runtime is."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rms_deploy.errors import InputError, RunError
from rms_deploy.onnx_model.optimization_profiles import OptimizationProfile
from rms_deploy.runtime.cuda_device import Buffer, CudaDevice, cuda_device
from rms_deploy.runtime.engine_file import read_engine, read_record
from rms_deploy.runtime.tensorrt_api import TensorRT, tensorrt, text_of
from rms_deploy.runtime.tensorrt_engine import deserialized, optimization_profiles, tensor_types

__all__ = ["BoundRun", "EngineSession", "bound_run", "matching_profile", "run", "session"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineSession:
    """An engine on a GPU. Only one thread at a time may use it."""

    api: TensorRT
    device: CudaDevice
    engine: Any
    context: Any
    inputs: Mapping[str, np.dtype[Any]]
    outputs: Mapping[str, np.dtype[Any]]
    optimization_profiles: tuple[OptimizationProfile, ...]
    cuda_graph: bool


def session(
    engine: str | os.PathLike[str] | Any,
    *,
    runtime: str | None = None,
    embedded_plugin: bool | None = None,
    holds_runtime: bool | None = None,
    cuda_graph: bool = False,
) -> EngineSession:
    """Load an engine.

    Args:
        engine: a file, or a plan in memory.
        runtime: "tensorrt" or "tensorrt-rtx"; default: as the record beside the engine says, else what is installed.
        embedded_plugin: the engine holds our plugin library, and may run that code; default: as the record says, else
            no. Without, our library is loaded if this installation has it.
        holds_runtime: the engine is version-compatible, and may run the lean runtime that it holds; default: as the
            record says, else no.
        cuda_graph: `bound_run` launches a graph, if the runtime can capture one.

    Raises:
        ModelFileError: there is no such file.
        MissingDependencyError: the runtime, or what allocates memory of the GPU, is not installed.
        InstallationError: there is no GPU.
        RunError: TensorRT refuses the engine.
    """
    name, record, plan = "the engine", dict[str, Any](), engine
    if isinstance(engine, str | os.PathLike):
        name, record, plan = os.fspath(engine), read_record(engine), read_engine(engine)
    api = tensorrt(runtime or record.get("runtime"))
    device = cuda_device()
    if embedded_plugin is None:
        embedded_plugin = bool((record.get("plugin") or {}).get("embedded"))
    if holds_runtime is None:
        holds_runtime = bool((record.get("options") or {}).get("version_compatible"))
    loaded = deserialized(api, plan, name=name, embedded_plugin=embedded_plugin, holds_runtime=holds_runtime)
    with api.errors() as errors:
        context = api.execution_context(loaded)
    if context is None:
        raise RunError(f"{name}: {api.name} {api.version} does not load it: {text_of(errors)}")
    inputs, outputs = tensor_types(api, loaded)
    profiles = optimization_profiles(loaded, inputs)
    return EngineSession(api, device, loaded, context, inputs, outputs, profiles, cuda_graph)


def run(running: EngineSession, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """All outputs of one run, by name.

    Raises:
        InputError: the inputs do not fit the engine, or no optimization profile holds their shapes.
        RunError: the run fails.
    """
    bound = _bind(running, running.context, feeds)
    bound.enqueue()
    bound.download()
    running.device.synchronize()
    return bound.results


@dataclass(frozen=True)
class BoundRun:
    """Runs an engine on the same inputs each time it is called, and waits for the end."""

    device: CudaDevice
    launch: Callable[[], None]
    """Put one run on the device's stream, as a CUDA graph or call by call."""
    upload: Callable[[], None]
    """Put the copies of all inputs to the GPU on the stream."""
    download: Callable[[], None]
    """Put the copies of all outputs from the GPU on the stream."""
    cuda_graph: bool = False
    """Whether `launch` launches a graph."""

    def __call__(self) -> None:
        """Run once."""
        self.launch()
        self.device.synchronize()


def bound_run(running: EngineSession, feeds: Mapping[str, NDArray[Any]]) -> BoundRun:
    """A function that runs on these inputs and waits for the end; inputs and outputs stay on the GPU.

    Raises:
        InputError: the inputs do not fit the engine, or no optimization profile holds their shapes.
        RunError: the run fails; also from the function.
    """
    with running.api.errors() as errors:
        context = running.api.execution_context(running.engine)
    if context is None:  # such as for want of memory
        raise RunError(f"the engine does not run: {text_of(errors)}")
    bound = _bind(running, context, feeds)
    bound.enqueue()  # what only the first run does belongs neither in a graph nor in a measurement
    running.device.synchronize()
    cuda_graph = running.cuda_graph and running.api.can_capture(context, running.device.stream)
    if cuda_graph != running.cuda_graph:
        _log.warning("%s cannot capture the engine as a CUDA graph; it runs without one", running.api.name)
    launch = running.device.capture(bound.enqueue) if cuda_graph else bound.enqueue
    return BoundRun(running.device, launch, bound.upload, bound.download, cuda_graph)


def matching_profile(profiles: tuple[OptimizationProfile, ...], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The index of the first optimization profile that holds all of `shapes`.

    Raises:
        InputError: there is none.
    """
    for index, profile in enumerate(profiles):
        if all(profile[name].holds(shape) for name, shape in shapes.items()):
            return index
    name = next((n for n, s in shapes.items() if not any(p[n].holds(s) for p in profiles)), None)
    if name is None:
        raise InputError("each input fits an optimization profile of the engine, but no profile fits them all")
    ranges = " or ".join(str(profile[name]) for profile in profiles)
    shape = "x".join(map(str, shapes[name]))
    raise InputError(f"input {name}: shape {shape} is outside of what the engine was built for, {ranges}")


@dataclass(frozen=True)
class _Bound:
    """An execution context whose inputs and outputs are in place."""

    session: EngineSession
    context: Any
    arrays: Mapping[str, NDArray[Any]]
    buffers: dict[str, Buffer] = field(default_factory=dict)
    results: dict[str, NDArray[Any]] = field(default_factory=dict)

    def enqueue(self) -> None:
        with self.session.api.errors() as errors:
            if not self.context.execute_async_v3(self.session.device.stream):
                raise RunError(f"the engine does not run: {text_of(errors)}")

    def upload(self) -> None:
        for name, array in self.arrays.items():
            if name in self.buffers:  # a shape tensor stays on the host
                self.session.device.upload(self.buffers[name], array)

    def download(self) -> None:
        for name, array in self.results.items():
            self.session.device.download(array, self.buffers[name])


def _bind(running: EngineSession, context: Any, feeds: Mapping[str, NDArray[Any]]) -> _Bound:
    arrays = _checked(running, feeds)
    profile = matching_profile(running.optimization_profiles, {name: array.shape for name, array in arrays.items()})
    bound = _Bound(running, context, arrays)
    if context.active_optimization_profile != profile:
        context.set_optimization_profile_async(profile, running.device.stream)
        running.device.synchronize()
    host = running.api.module.TensorLocation.HOST
    for name, array in arrays.items():
        context.set_input_shape(name, array.shape)
        if running.engine.get_tensor_location(name) == host:  # TensorRT reads a shape tensor from the host
            context.set_tensor_address(name, array.ctypes.data)
            continue
        bound.buffers[name] = running.device.allocate(array.nbytes)
        running.device.upload(bound.buffers[name], array)
        context.set_tensor_address(name, bound.buffers[name].address)
    if missing := context.infer_shapes():
        raise RunError(f"the shapes of the outputs cannot be inferred: {', '.join(missing)} has no shape or no value")
    for name, dtype in running.outputs.items():
        shape = tuple(context.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise RunError(f"output {name}: its shape depends on the data; only shapes that follow from inputs work")
        bound.results[name] = np.empty(shape, dtype)
        bound.buffers[name] = running.device.allocate(bound.results[name].nbytes)
        context.set_tensor_address(name, bound.buffers[name].address)
    running.device.synchronize()
    return bound


def _checked(running: EngineSession, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    if set(feeds) != set(running.inputs):
        raise InputError(
            f"arrays were given for {', '.join(feeds) or 'no input'}; the engine needs {', '.join(running.inputs)}"
        )
    for name, dtype in running.inputs.items():
        if feeds[name].dtype != dtype:
            raise InputError(f"input {name}: dtype {feeds[name].dtype} was given; the engine takes {dtype}")
    return {name: np.ascontiguousarray(feeds[name]).reshape(feeds[name].shape) for name in running.inputs}
