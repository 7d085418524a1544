"""What a server is to load: an ONNX model, or an engine with its record."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import ml_dtypes
import onnx
import onnx_ir as ir

from rms_deploy.engine.parser_input import count_unfused
from rms_deploy.errors import InputError, InstallationError
from rms_deploy.libraries import onnxruntime_library, tensorrt_library
from rms_deploy.onnx_model.file import open_model, save_model
from rms_deploy.onnx_model.shapes import check_shape, require_known, resolve_shapes
from rms_deploy.onnx_model.signature import TensorSpec, input_specs, output_specs
from rms_deploy.ops.nodes import norm_nodes
from rms_deploy.runtime.engine_file import is_engine, read_engine, read_record, record_path

__all__ = ["EngineSource", "ModelLike", "OnnxSource", "Source"]

_log = logging.getLogger(__name__)

_LOADER: Final = "librms_deploy_tensorrt_loader.so"
_PYTHON_MODEL: Final = Path(__file__).with_name("triton_model.py")

ModelLike = str | os.PathLike[str] | onnx.ModelProto | ir.Model
_Shapes = Mapping[str, Sequence[int]]


class Source(Protocol):
    """A model that a backend of the server can load."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    libraries: tuple[Path, ...]
    """What must lie beside the versions."""
    op_library: str | None
    """That of them which the model's configuration names."""
    profile_count: int
    """How many optimization profiles it has; 0: it has none."""
    largest_batch: int | None
    """The largest first dimension of its inputs; None: any."""

    def write(self, folder: Path) -> None:
        """Put the files of the version into `folder`."""

    def shapes(self, shapes: _Shapes, dims: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """A whole shape for each input, from what is given of them."""

    def server_options(self, folder: str) -> tuple[str, ...]:
        """What the server is started with, where it sees the model in `folder`."""


class OnnxSource:
    """An ONNX model, for the backends onnxruntime and python."""

    def __init__(self, model: ModelLike, backend: str) -> None:
        """Read it.

        Raises:
            ModelFileError: the file cannot be read.
            InputError: it is an engine, or the signature has something else than tensors of numbers, or than
                numpy has for the Python backend.
            InstallationError: it has our ops, and this installation no library.
        """
        if isinstance(model, str | os.PathLike) and is_engine(model):
            raise InputError(f'{os.fspath(model)}: is an engine; give `backend="tensorrt"`')
        self._model = open_model(model)
        self._is_python = backend == "python"
        self.inputs = tuple(input_specs(self._model).values())
        self.outputs = tuple(output_specs(self._model).values())
        if self._is_python and any(spec.dtype == ml_dtypes.bfloat16 for spec in (*self.inputs, *self.outputs)):
            raise InputError(
                'the Python backend gives a model numpy arrays, and numpy has no bfloat16; give `backend="onnxruntime"`'
            )
        has_our_ops = any(True for _ in norm_nodes(self._model))
        self.libraries: tuple[Path, ...] = (onnxruntime_library(),) if has_our_ops and not self._is_python else ()
        self.op_library: str | None = self.libraries[0].name if self.libraries else None
        self.profile_count = 0
        self.largest_batch: int | None = None
        if unfused := count_unfused(self._model):
            _log.warning("%d norms are not fused; run `rms_deploy.fuse` first", unfused)

    def write(self, folder: Path) -> None:
        """The model, with its external data; for the Python backend, the program too."""
        save_model(self._model, folder / "model.onnx")
        if self._is_python:
            shutil.copyfile(_PYTHON_MODEL, folder / "model.py")

    def shapes(self, shapes: _Shapes, dims: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """Those that nobody gave are guessed, as everywhere."""
        return resolve_shapes(self._model, shapes=shapes, dims=dims)

    def server_options(self, folder: str) -> tuple[str, ...]:  # noqa: ARG002 - the configuration says all
        """None."""
        return ()


class EngineSource:
    """An engine of TensorRT that `build` wrote, for the backend tensorrt."""

    def __init__(self, model: ModelLike) -> None:
        """Read its record.

        Raises:
            ModelFileError: there is no such file.
            InputError: it is no engine, has no record that says its signature, or is one of TensorRT-RTX.
            InstallationError: it needs the plugin library, and this installation has none.
        """
        if not isinstance(model, str | os.PathLike) or not is_engine(model):
            name = os.fspath(model) if isinstance(model, str | os.PathLike) else "the model"
            raise InputError(f"{name}: the backend tensorrt takes an engine; make one with `rms_deploy.build`")
        self._engine = Path(model)
        read_engine(model)
        record = read_record(model)
        if "inputs" not in record:
            raise InputError(
                f"{model}: {record_path(model).name} beside it does not say its inputs; build it with this version"
            )
        if record.get("runtime") != "tensorrt":
            raise InputError(
                f"{model}: was built for {record.get('runtime')}; the server's backend runs engines of TensorRT only"
            )
        self.inputs = _specs(record["inputs"])
        self.outputs = _specs(record["outputs"])
        profiles = record["optimization_profiles"]
        self._usual = {name: tuple(sizes["opt"]) for name, sizes in profiles[0].items()}
        self.profile_count = len(profiles)
        self.largest_batch: int | None = max(_largest_batch(profile) for profile in profiles)
        self._plugin = record.get("plugin") or {}
        self.libraries: tuple[Path, ...] = (
            _plugin_libraries() if self._plugin and not self._plugin.get("embedded") else ()
        )
        self.op_library: str | None = None

    def write(self, folder: Path) -> None:
        """The engine and its record."""
        shutil.copyfile(self._engine, folder / "model.plan")
        shutil.copyfile(record_path(self._engine), record_path(folder / "model.plan"))

    def shapes(self, shapes: _Shapes, dims: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """Those that nobody gave are the usual ones of the first optimization profile."""
        if dims:
            raise InputError(f"{self._engine}: an engine has no named dimensions; give `shapes`")
        specs = {spec.name: spec for spec in self.inputs}
        require_known("input", shapes, specs)
        for name, shape in shapes.items():
            check_shape(specs[name], shape)
        return {**self._usual, **{name: tuple(shape) for name, shape in shapes.items()}}

    def server_options(self, folder: str) -> tuple[str, ...]:
        """How its plugin gets into the server."""
        if self.libraries:
            return (f"--backend-config=tensorrt,plugins={folder}/{_LOADER}",)
        return ("--backend-config=tensorrt,version-compatible=true",) if self._plugin else ()


def _plugin_libraries() -> tuple[Path, ...]:
    """Our plugins, and what has TensorRT load them where a host only opens a library."""
    plugins = tensorrt_library()
    loader = plugins.with_name(_LOADER)
    if not loader.is_file():
        raise InstallationError(f"{_LOADER} is not beside {plugins}; reinstall rms-deploy")
    return plugins, loader


def _largest_batch(profile: Mapping[str, Any]) -> int:
    """What all inputs of an optimization profile may have as their first dimension."""
    return min((sizes["max"][0] for sizes in profile.values() if sizes["max"]), default=0)


def _specs(recorded: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec.from_dict(name, spec) for name, spec in recorded.items())
