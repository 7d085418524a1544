"""An engine that TensorRT has loaded: its inputs, outputs, optimization profiles and layers."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import ml_dtypes
import numpy as np

from rms_deploy.errors import InstallationError, RunError
from rms_deploy.onnx_model.optimization_profiles import OptimizationProfile, ShapeRange
from rms_deploy.runtime.tensorrt_api import TensorRT, text_of
from rms_deploy.runtime.tensorrt_plugin import load_plugins

__all__ = ["deserialized", "optimization_profiles", "tensor_types"]

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


def deserialized(api: TensorRT, plan: Any, *, name: str, embedded_plugin: bool, holds_runtime: bool = False) -> Any:
    """Load a plan onto the GPU.

    Args:
        api: the runtime that built it.
        plan: the bytes.
        name: what messages call the engine.
        embedded_plugin: the plan holds our plugin library, and may run that code; if not, our library is loaded where
            this installation has it.
        holds_runtime: the plan is version-compatible and holds the lean runtime, code of TensorRT's own.

    Raises:
        RunError: TensorRT refuses the engine.
    """
    loader = api.module.Runtime(api.logger())
    loader.engine_host_code_allowed = embedded_plugin or holds_runtime
    if not embedded_plugin:
        with suppress(InstallationError):
            load_plugins(api)
    with api.errors() as errors:
        engine = loader.deserialize_cuda_engine(plan)
    if engine is None:
        raise RunError(f"{name}: {api.name} {api.version} does not load it: {text_of(errors)}")
    return engine


def tensor_types(api: TensorRT, engine: Any) -> tuple[dict[str, np.dtype[Any]], dict[str, np.dtype[Any]]]:
    """The type of each input and of each output, by name.

    Raises:
        RunError: numpy has no such type.
    """
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


def optimization_profiles(engine: Any, inputs: Iterable[str]) -> tuple[OptimizationProfile, ...]:
    """The shapes that each input may have, for each optimization profile."""
    names = tuple(inputs)
    return tuple(
        {name: ShapeRange(*map(tuple, engine.get_tensor_profile_shape(name, index))) for name in names}
        for index in range(engine.num_optimization_profiles)
    )
