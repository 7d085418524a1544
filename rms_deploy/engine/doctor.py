"""`doctor`: which runtimes, GPUs and libraries are here, and which norms of a model find no plugin, and why."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

import onnx
import onnx.parser
import onnx_ir as ir

from rms_deploy.display import Displayed, Table
from rms_deploy.engine.builder import parsed_plugins
from rms_deploy.engine.parser_input import count_unfused, with_plugin_norms
from rms_deploy.engine.plugin_faults import plugin_faults
from rms_deploy.engine.source_model import SourceModel, source_model
from rms_deploy.errors import InstallationError, RmsDeployError
from rms_deploy.fusion.inspect import inspect
from rms_deploy.libraries import onnxruntime_library, tensorrt_library
from rms_deploy.runtime.gpus import Gpu, gpu_problem, gpus
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
    """What is wrong, in one line; empty: nothing is."""


@dataclass(frozen=True)
class ModelDiagnosis:
    """The norms of a model, as TensorRT sees them."""

    model: str
    norm_count: int
    """How many norms are fused."""
    unfused_count: int
    """How many more `fuse` would take."""
    faults: tuple[str, ...]
    """Why a norm finds no plugin: its name, version, namespace or a type; or the library is not loaded."""
    plugins: dict[str, str]
    """By runtime: how many norms become plugins when it parses the model, or why it refuses the model."""
    broken: tuple[str, ...] = ()
    """What other tools broke, which `fuse` mends: `runs only with the library (5 norms): no body`."""


@dataclass(frozen=True, repr=False)
class Diagnosis(Displayed):
    """What `doctor` found."""

    rms_deploy: str
    python: str
    system: str
    gpus: tuple[Gpu, ...]
    gpu_problem: str
    """Why no GPU can be used; empty: one can."""
    runtimes: tuple[RuntimeDiagnosis, ...]
    model: ModelDiagnosis | None

    @property
    def healthy(self) -> bool:
        """Whether every runtime that is installed has our library, and every norm of the model a plugin."""
        broken = any(runtime.version is not None and not runtime.registered for runtime in self.runtimes)
        return not broken and (self.model is None or not self.model.faults)

    def tables(self) -> Iterable[Table]:
        """A row for each runtime."""
        rows = [
            (
                runtime.name,
                runtime.version or "not here",
                "registered" if runtime.registered else "built" if runtime.library else "not built",
            )
            for runtime in self.runtimes
        ]
        yield Table(("runtime", "version", "our library"), rows, left=3)

    def _line(self) -> str:
        return f"rms-deploy {self.rms_deploy}, {'healthy' if self.healthy else 'something is wrong'}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "healthy": self.healthy}


def doctor(model: str | os.PathLike[str] | onnx.ModelProto | ir.Model | None = None) -> Diagnosis:
    """Look for the runtimes, load our library into each, and say which norms of a model find no plugin, and why.

    Args:
        model: a file, a proto or an onnx-ir model; default: none.

    Raises:
        ModelFileError: the model cannot be read.
    """
    with nullcontext() if model is None else source_model(model) as source:
        here: dict[str, TensorRT] = {}
        runtimes = (_onnxruntime(), *(_tensorrt(name, here) for name in TENSORRT_RUNTIMES))
        return Diagnosis(
            rms_deploy=versions().get("rms-deploy", ""),
            python=platform.python_version(),
            system=platform.platform(),
            gpus=gpus(),
            gpu_problem=gpu_problem(),
            runtimes=runtimes,
            model=None if source is None else _model(source, runtimes, here),
        )


def _onnxruntime() -> RuntimeDiagnosis:
    version = library = None
    try:
        from rms_deploy.runtime import onnxruntime_session as runtime

        installed = versions()
        version = installed.get("onnxruntime") or installed.get("onnxruntime-gpu")
        library = str(onnxruntime_library())
        runtime.session(onnx.parser.parse_model(_ONE_NORM), threads=1)
    except RmsDeployError as error:
        return RuntimeDiagnosis("onnxruntime", version, library, registered=False, problem=str(error))
    return RuntimeDiagnosis("onnxruntime", version, library, registered=True, problem="")


def _tensorrt(name: str, here: dict[str, TensorRT]) -> RuntimeDiagnosis:
    version = library = None
    with suppress(InstallationError):  # load_plugins says it where the runtime is installed
        library = str(tensorrt_library())
    try:
        here[name] = api = tensorrt(name)
        version = api.version
        load_plugins(api)
    except RmsDeployError as error:
        return RuntimeDiagnosis(name, version, library, registered=False, problem=str(error))
    return RuntimeDiagnosis(name, version, library, registered=True, problem="")


def _model(source: SourceModel, runtimes: tuple[RuntimeDiagnosis, ...], here: dict[str, TensorRT]) -> ModelDiagnosis:
    prepared, norms = with_plugin_norms(source.model)
    names = {norm.name for norm in norms}
    plugins, faults = {}, [*plugin_faults(source.model)]
    for runtime in runtimes:
        if runtime.name not in here:
            continue
        if not runtime.registered:
            faults += [f"library: not loaded into {runtime.name}: {runtime.problem}"] if names else []
            continue
        try:
            found = names & parsed_plugins(here[runtime.name], prepared, source)
        except RmsDeployError as error:
            plugins[runtime.name] = str(error)
            continue
        plugins[runtime.name] = f"{len(found)} of {len(names)} fused norms become plugin layers"
        faults += [f"{name}: {runtime.name} takes no plugin for it" for name in sorted(names - found)]
    return ModelDiagnosis(
        source.name,
        len(names),
        count_unfused(source.model),
        tuple(faults),
        plugins,
        inspect(source.model).faults,
    )
