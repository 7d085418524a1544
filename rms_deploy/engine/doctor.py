"""`doctor`: which runtimes, GPUs and libraries are here, and why a norm of a model finds no plugin."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

import onnx.parser
import onnx_ir as ir

import rms_deploy
from rms_deploy.engine.builder import parsed_plugins
from rms_deploy.engine.parser_input import unfused_norms, with_plugin_norms
from rms_deploy.engine.plugin_faults import plugin_faults
from rms_deploy.errors import InstallationError, RmsDeployError
from rms_deploy.onnx_model.file import load_model
from rms_deploy.runtime.gpus import Gpu, gpus
from rms_deploy.runtime.machine import versions
from rms_deploy.runtime.tensorrt_api import TENSORRT_RUNTIMES, TensorRT, tensorrt
from rms_deploy.runtime.tensorrt_plugin import load_plugins

__all__ = ["Diagnosis", "ModelDiagnosis", "RuntimeDiagnosis", "doctor"]

_ONE_NORM: Final = """<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]>
one_norm (float[n, 8] X, float[8] scale) => (float[n, 8] Y) { Y = rms_deploy.RMSNorm (X, scale) }"""


@dataclass(frozen=True)
class RuntimeDiagnosis:
    """One runtime and our library for it."""

    name: str
    version: str | None
    """None: it is not installed, or does not load."""
    library: str | None
    """The path of our library; None: it is not built."""
    registered: bool
    """Whether the runtime has our ops from that library."""
    problem: str
    """In one line; empty: none."""


@dataclass(frozen=True)
class ModelDiagnosis:
    """The norms of a model, as TensorRT sees them."""

    model: str
    norms: int
    """Fused ones."""
    unfused: int
    """Those that `fuse` would take."""
    faults: tuple[str, ...]
    """Of each norm that finds no plugin: its name, version, namespace or a type; or the library."""
    plugins: dict[str, str]
    """What the parser of each runtime makes of them."""


@dataclass(frozen=True)
class Diagnosis:
    """What `doctor` found."""

    rms_deploy: str
    python: str
    system: str
    gpus: tuple[Gpu, ...]
    runtimes: tuple[RuntimeDiagnosis, ...]
    model: ModelDiagnosis | None

    @property
    def healthy(self) -> bool:
        """Whether every runtime that is installed has our library, and every norm of the model a plugin."""
        broken = any(runtime.version is not None and not runtime.registered for runtime in self.runtimes)
        return not broken and (self.model is None or not self.model.faults)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "healthy": self.healthy}


def doctor(model: str | os.PathLike[str] | None = None) -> Diagnosis:
    """Look for the runtimes, load our library into each, and, of a model, say what keeps its norms from the plugins.

    Raises:
        ModelFileError: the model cannot be read.
    """
    read = None if model is None else load_model(model)
    here: dict[str, TensorRT] = {}
    runtimes = (_onnxruntime(), *(_tensorrt(name, here) for name in TENSORRT_RUNTIMES))
    return Diagnosis(
        rms_deploy=rms_deploy.__version__,
        python=platform.python_version(),
        system=platform.platform(),
        gpus=gpus(),
        runtimes=runtimes,
        model=None if model is None or read is None else _model(os.fspath(model), read, runtimes, here),
    )


def _onnxruntime() -> RuntimeDiagnosis:
    version = library = None
    try:
        from rms_deploy.runtime import onnxruntime_session as runtime

        installed = versions()
        version = installed.get("onnxruntime") or installed.get("onnxruntime-gpu")
        library = str(rms_deploy.onnxruntime_library())
        runtime.session(onnx.parser.parse_model(_ONE_NORM), threads=1)
    except RmsDeployError as error:
        return RuntimeDiagnosis("onnxruntime", version, library, registered=False, problem=str(error))
    return RuntimeDiagnosis("onnxruntime", version, library, registered=True, problem="")


def _tensorrt(name: str, here: dict[str, TensorRT]) -> RuntimeDiagnosis:
    version = library = None
    with suppress(InstallationError):  # load_plugins says it, where there is a runtime for it
        library = str(rms_deploy.tensorrt_library())
    try:
        here[name] = api = tensorrt(name)
        version = api.version
        load_plugins(api)
    except RmsDeployError as error:
        return RuntimeDiagnosis(name, version, library, registered=False, problem=str(error))
    return RuntimeDiagnosis(name, version, library, registered=True, problem="")


def _model(
    path: str, model: ir.Model, runtimes: tuple[RuntimeDiagnosis, ...], here: dict[str, TensorRT]
) -> ModelDiagnosis:
    prepared, names = with_plugin_norms(model)
    plugins, faults = {}, [*plugin_faults(model)]
    for runtime in runtimes:
        if runtime.name not in here:
            continue
        if not runtime.registered:
            faults += [f"library: not loaded into {runtime.name}: {runtime.problem}"] if names else []
            continue
        try:
            found = names.intersection(parsed_plugins(here[runtime.name], prepared, path))
        except RmsDeployError as error:
            plugins[runtime.name] = str(error)
            continue
        plugins[runtime.name] = f"{len(found)} of {len(names)} fused norms become plugin layers"
        faults += [f"{name}: {runtime.name} takes no plugin for it" for name in sorted(names - found)]
    return ModelDiagnosis(path, len(names), unfused_norms(model), tuple(faults), plugins)
