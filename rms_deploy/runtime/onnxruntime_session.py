"""ONNX Runtime: sessions with our custom-op library registered, and runs that take and give bfloat16 arrays."""

from __future__ import annotations

import ctypes
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.errors import InputError, InstallationError, MissingDependencyError, ModelFileError, RunError
from rms_deploy.libraries import onnxruntime_library
from rms_deploy.onnx_model.file import open_model, save_model
from rms_deploy.ops import contract
from rms_deploy.runtime.onnxruntime_messages import load_failure, message_of

try:
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as _state
except ImportError as error:
    raise MissingDependencyError(
        "onnxruntime is not installed; run: pip install onnxruntime (or onnxruntime-gpu, never both)"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["bound_run", "run", "session", "to_array", "to_value"]

_CPU = "CPUExecutionProvider"

_ERRORS: tuple[type[Exception], ...] = tuple(
    value for value in vars(_state).values() if isinstance(value, type) and issubclass(value, Exception)
)
"""Every exception class of ONNX Runtime, because they have no base class of their own."""

_WITHOUT_NUMPY = {"tensor(bfloat16)": ml_dtypes.bfloat16, "tensor(float8e4m3fn)": ml_dtypes.float8_e4m3fn}
"""The dtypes of tensors that ONNX Runtime does not give as what they are."""

_RUN_ERRORS: tuple[type[Exception], ...] = (*_ERRORS, RuntimeError, ValueError)
"""What a run can raise; the last two are of ONNX Runtime's Python layer, for inputs that are missing or of a wrong
kind."""


def session(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto | ir.Model,
    *,
    threads: int | None = None,
    optimize: bool = True,
    library: bool = True,
    provider: str = _CPU,
    in_order: bool = False,
    optimized_path: str | os.PathLike[str] | None = None,
    profile_prefix: str | os.PathLike[str] | None = None,
) -> ort.InferenceSession:
    """A session of ONNX Runtime, by default on the CPU.

    Args:
        model: a file, a serialised model, or a model in memory.
        threads: of the session's pool; default: ONNX Runtime's choice, one per core.
        optimize: all graph optimisations, or none.
        library: register our custom-op library; without it, the ops of domain `rms_deploy` run as the functions that
            the model carries.
        provider: the execution provider, such as "CUDAExecutionProvider"; what it has no kernel for runs on the CPU.
        in_order: run the nodes in the order of the file, and hand memory back at once. By default nodes that need no
            result of others run first, and what they give is kept.
        optimized_path: write the optimised graph to this file, and its weights to `<optimized_path>.data`.
        profile_prefix: `end_profiling` writes the times of the operators to a file of this name and a time stamp.

    Raises:
        ModelFileError: there is no such file.
        RunError: ONNX Runtime refuses the model.
        InstallationError: this installation has no library, and `library` is true; or it has no such provider, or the
            provider does not start.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}; use at least 1")
    if provider not in ort.get_available_providers():
        here = ", ".join(ort.get_available_providers())
        raise InstallationError(
            f"onnxruntime {ort.__version__} has no {provider}, only {here}; onnxruntime-gpu has CUDA's"
        )
    options = ort.SessionOptions()
    options.log_severity_level = 4  # a failure is an exception, and the exception says all that the log would
    if threads is not None:
        options.intra_op_num_threads = threads
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    if in_order:
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    if optimized_path is not None:
        options.optimized_model_filepath = os.fspath(optimized_path)
        # By default the graph names the data files of the model, as if they were in its own folder.
        data = f"{Path(optimized_path).name}.data"
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", data)
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = os.fspath(profile_prefix)
    if library:
        path = onnxruntime_library()
        try:
            options.register_custom_ops_library(str(path))
        except _ERRORS as error:
            raise RunError(f"{path.name}: {message_of(error)}") from error
    if isinstance(model, ir.Model):
        with tempfile.TemporaryDirectory() as folder:  # a file, as a message of more than 2 GiB cannot be passed
            file = Path(folder) / "model.onnx"
            save_model(open_model(model), file)
            return _create(str(file), model.graph.name or "model", options, provider)
    if isinstance(model, onnx.ModelProto):
        return _create(model.SerializeToString(), model.graph.name or "model", options, provider)
    if isinstance(model, bytes):
        return _create(model, "model", options, provider)
    if not Path(model).is_file():
        raise ModelFileError(f"{model}: no such file")
    return _create(os.fspath(model), os.fspath(model), options, provider)


def run(running: ort.InferenceSession, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """All outputs of one run, by name.

    bfloat16 arrays are of type `ml_dtypes.bfloat16`, which `InferenceSession.run` does not take, and float8e4m3fn
    results of type `ml_dtypes.float8_e4m3fn`, which it gives as uint8.

    Raises:
        RunError: ONNX Runtime refuses the inputs, or a kernel fails.
    """
    names = [output.name for output in running.get_outputs()]
    values = [*running.get_inputs(), *running.get_outputs()]
    try:
        if not any(value.type in _WITHOUT_NUMPY for value in values):
            return dict(zip(names, running.run(names, dict(feeds)), strict=True))
        # ONNX Runtime reads the memory of these arrays until the run ends.
        arrays = {name: np.asarray(array, order="C") for name, array in feeds.items()}
        given = {name: to_value(array) for name, array in arrays.items()}
        return dict(zip(names, map(to_array, running.run_with_ort_values(names, given)), strict=True))
    except _RUN_ERRORS as error:
        raise RunError(message_of(error)) from error


def bound_run(
    running: ort.InferenceSession, feeds: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]] | None = None
) -> Callable[[], None]:
    """A function that runs on these inputs, and converts and allocates nothing.

    It writes all outputs to the arrays in `outputs`; without them, to where a first run put its outputs.

    Raises:
        RunError: ONNX Runtime refuses the inputs, or a kernel fails; also from the function.
    """
    arrays = {name: np.asarray(array, order="C") for name, array in feeds.items()}
    values = {name: to_value(array) for name, array in arrays.items()}
    names = [output.name for output in running.get_outputs()]
    try:
        results = running.run_with_ort_values(names, values) if outputs is None else []
    except _RUN_ERRORS as error:
        raise RunError(message_of(error)) from error
    binding = running.io_binding()
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    for name, value in zip(names, results, strict=outputs is None):
        binding.bind_ortvalue_output(name, value)
    for name, array in (outputs or {}).items():
        binding.bind_output(name, "cpu", 0, contract.ELEMENT_TYPES[array.dtype.name], array.shape, array.ctypes.data)

    def run_bound(_alive: object = (arrays, values, results, outputs)) -> None:
        running.run_with_iobinding(binding)

    return run_bound


def _create(model: str | bytes, name: str, options: ort.SessionOptions, provider: str) -> ort.InferenceSession:
    try:
        created = ort.InferenceSession(model, options, providers=list(dict.fromkeys((provider, _CPU))))
    except _ERRORS as error:
        raise RunError(f"{name}: {load_failure(error, version=ort.__version__)}") from error
    if provider not in created.get_providers():  # ONNX Runtime falls back to the CPU by itself
        raise InstallationError(
            f"{provider} does not start here; it needs its device, and the libraries that it names in its log"
        )
    return created


def to_value(array: NDArray[Any]) -> ort.OrtValue:
    """`array`, C-contiguous, as a value of ONNX Runtime; it may read the memory of `array` as long as it lives."""
    if array.dtype != ml_dtypes.bfloat16:
        return ort.OrtValue.ortvalue_from_numpy(array)
    if hasattr(ort.OrtValue, "ortvalue_from_numpy_with_onnx_type"):  # from 1.20 on
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), onnx.TensorProto.BFLOAT16)
    wide = ort.OrtValue.ortvalue_from_numpy(array.astype(np.float32))
    return _to_bfloat16().run_with_ort_values(["y"], {"x": wide})[0]


def to_array(value: ort.OrtValue) -> NDArray[Any]:
    """A copy of `value`, bfloat16 and float8e4m3fn as types of `ml_dtypes`."""
    if value.data_type() not in _WITHOUT_NUMPY:
        array: NDArray[Any] = value.numpy()
        return array
    array = np.empty(value.shape(), _WITHOUT_NUMPY[value.data_type()])
    ctypes.memmove(array.ctypes.data, value.data_ptr(), array.nbytes)
    return array


@cache
def _to_bfloat16() -> ort.InferenceSession:
    """A model that casts to bfloat16, which is the only way to such a value in onnxruntime 1.18 and 1.19.

    The cast is exact here, because its input was bfloat16.
    """
    float32, bfloat16 = onnx.TensorProto.FLOAT, onnx.TensorProto.BFLOAT16
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Cast", ["x"], ["y"], to=bfloat16)],
        "to_bfloat16",
        [onnx.helper.make_tensor_value_info("x", float32, None)],
        [onnx.helper.make_tensor_value_info("y", bfloat16, None)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    return session(model, threads=1, library=False)
