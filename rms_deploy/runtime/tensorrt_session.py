"""TensorRT and TensorRT-RTX: a session over an engine, with the interface of the ONNX Runtime one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from rms_deploy.errors import InputError, InstallationError, ModelFileError, RunError
from rms_deploy.onnx_model.optimization_profiles import Profile, ShapeRange
from rms_deploy.runtime.cuda_device import Buffer, CudaDevice, cuda_device
from rms_deploy.runtime.engine_file import read_record
from rms_deploy.runtime.tensorrt_api import TensorRT, tensorrt, text_of
from rms_deploy.runtime.tensorrt_plugin import load_plugins

__all__ = ["EngineSession", "bound_run", "matching_profile", "run", "session"]

_TYPES: Final[dict[str, np.dtype[Any]]] = {
    "FLOAT": np.dtype(np.float32),
    "HALF": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "FP8": np.dtype(ml_dtypes.float8_e4m3fn),
    "INT8": np.dtype(np.int8),
    "UINT8": np.dtype(np.uint8),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "BOOL": np.dtype(np.bool_),
}


@dataclass(frozen=True)
class EngineSession:
    """An engine on a GPU. Not for several threads at once."""

    api: TensorRT
    device: CudaDevice
    engine: Any
    context: Any
    inputs: Mapping[str, np.dtype[Any]]
    outputs: Mapping[str, np.dtype[Any]]
    profiles: tuple[Profile, ...]
    cuda_graph: bool


def session(
    engine: str | os.PathLike[str] | Any,
    *,
    runtime: str | None = None,
    embedded_plugin: bool | None = None,
    cuda_graph: bool = False,
) -> EngineSession:
    """Load an engine.

    Args:
        engine: a file, or a plan in memory.
        runtime: "tensorrt" or "tensorrt-rtx"; default: as the file beside the engine says, else what is installed.
        embedded_plugin: the engine holds our plugin library, and may run that code; default: as the file beside it
            says, else no. Without, our library is loaded if this installation has it.
        cuda_graph: `bound_run` launches a graph.

    Raises:
        ModelFileError: there is no such file.
        MissingDependencyError: the runtime, or what allocates memory of the GPU, is not installed.
        RunError: there is no GPU, or TensorRT refuses the engine.
    """
    name, record, plan = "the engine", dict[str, Any](), engine
    if isinstance(engine, str | os.PathLike):
        name, record, plan = os.fspath(engine), read_record(engine), _read(engine)
    api = tensorrt(runtime or record.get("runtime"))
    device = cuda_device()
    loader = api.module.Runtime(api.logger())
    if embedded_plugin if embedded_plugin is not None else (record.get("plugin") or {}).get("embedded"):
        loader.engine_host_code_allowed = True
    else:
        with suppress(InstallationError):
            load_plugins(api)
    with api.errors() as errors:
        loaded = loader.deserialize_cuda_engine(plan)
        context = loaded and loaded.create_execution_context()
    if context is None:
        raise RunError(f"{name}: {api.name} {api.version} does not load it: {text_of(errors)}")
    inputs, outputs = _tensors(api, loaded)
    return EngineSession(api, device, loaded, context, inputs, outputs, _profiles(loaded, inputs), cuda_graph)


def run(running: EngineSession, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """All outputs of one run, by name.

    Raises:
        InputError: the inputs do not fit the engine, or no profile holds their shapes.
        RunError: the run fails.
    """
    bound = _bind(running, running.context, feeds)
    bound.enqueue()
    for name, array in bound.results.items():
        running.device.download(array, bound.buffers[name])
    running.device.synchronize()
    return bound.results


def bound_run(running: EngineSession, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], None]:
    """A function that runs on these inputs, which stay on the GPU as the outputs do, and waits for the end.

    Raises:
        InputError: the inputs do not fit the engine, or no profile holds their shapes.
        RunError: the run fails; also from the function.
    """
    with running.api.errors() as errors:
        context = running.engine.create_execution_context()
    if context is None:  # such as for want of memory
        raise RunError(f"the engine does not run: {text_of(errors)}")
    bound = _bind(running, context, feeds)
    bound.enqueue()  # what is done once is not part of a graph, nor of a measurement
    running.device.synchronize()
    launch = running.device.capture(bound.enqueue) if running.cuda_graph else bound.enqueue

    def run_bound(_alive: object = bound) -> None:
        launch()
        running.device.synchronize()

    return run_bound


def matching_profile(profiles: tuple[Profile, ...], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The first profile that holds all of `shapes`.

    Raises:
        InputError: there is none.
    """
    for index, profile in enumerate(profiles):
        if all(profile[name].holds(shape) for name, shape in shapes.items()):
            return index
    name = next((n for n, s in shapes.items() if not any(p[n].holds(s) for p in profiles)), None)
    if name is None:
        raise InputError("each input fits a profile of the engine, but no profile fits them all")
    ranges = " or ".join(str(profile[name]) for profile in profiles)
    shape = "x".join(map(str, shapes[name]))
    raise InputError(f"input {name}: shape {shape} is outside of what the engine was built for, {ranges}")


@dataclass(frozen=True)
class _Bound:
    """A context with its inputs and outputs in place."""

    session: EngineSession
    context: Any
    arrays: Mapping[str, NDArray[Any]]
    buffers: dict[str, Buffer] = field(default_factory=dict)
    results: dict[str, NDArray[Any]] = field(default_factory=dict)

    def enqueue(self) -> None:
        with self.session.api.errors() as errors:
            if not self.context.execute_async_v3(self.session.device.stream):
                raise RunError(f"the engine does not run: {text_of(errors)}")


def _bind(running: EngineSession, context: Any, feeds: Mapping[str, NDArray[Any]]) -> _Bound:
    arrays = _checked(running, feeds)
    profile = matching_profile(running.profiles, {name: array.shape for name, array in arrays.items()})
    bound = _Bound(running, context, arrays)
    if context.active_optimization_profile != profile:
        context.set_optimization_profile_async(profile, running.device.stream)
        running.device.synchronize()
    host = running.api.module.TensorLocation.HOST
    for name, array in arrays.items():
        context.set_input_shape(name, array.shape)
        if running.engine.get_tensor_location(name) == host:  # a shape, which TensorRT reads itself
            context.set_tensor_address(name, array.ctypes.data)
            continue
        bound.buffers[name] = running.device.allocate(array.nbytes)
        running.device.upload(bound.buffers[name], array)
        context.set_tensor_address(name, bound.buffers[name].address)
    if missing := context.infer_shapes():
        raise RunError(f"the engine does not tell its shapes without {', '.join(missing)}")
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
        raise InputError(f"arrays for {', '.join(feeds) or 'nothing'}; the engine needs {', '.join(running.inputs)}")
    for name, dtype in running.inputs.items():
        if feeds[name].dtype != dtype:
            raise InputError(f"input {name}: dtype {feeds[name].dtype} was given; the engine takes {dtype}")
    return {name: np.ascontiguousarray(feeds[name]).reshape(feeds[name].shape) for name in running.inputs}


def _tensors(api: TensorRT, engine: Any) -> tuple[dict[str, np.dtype[Any]], dict[str, np.dtype[Any]]]:
    inputs: dict[str, np.dtype[Any]] = {}
    outputs: dict[str, np.dtype[Any]] = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = engine.get_tensor_dtype(name).name
        if dtype not in _TYPES:
            raise RunError(f"{name} has type {dtype.lower()}; supported are {', '.join(map(str, _TYPES.values()))}")
        side = inputs if engine.get_tensor_mode(name) == api.module.TensorIOMode.INPUT else outputs
        side[name] = _TYPES[dtype]
    return inputs, outputs


def _profiles(engine: Any, inputs: Mapping[str, np.dtype[Any]]) -> tuple[Profile, ...]:
    return tuple(
        {name: ShapeRange(*map(tuple, engine.get_tensor_profile_shape(name, index))) for name in inputs}
        for index in range(engine.num_optimization_profiles)
    )


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise ModelFileError(f"{path}: no such file") from None
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
