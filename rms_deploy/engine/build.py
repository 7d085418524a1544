"""`build`: an engine of TensorRT or TensorRT-RTX, its norms plugins or decomposed, and proof which they are."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import onnx
import onnx_ir as ir

from rms_deploy.engine.builder import BuildOptions, Plan
from rms_deploy.engine.choice import BuiltEngine, EngineRequest, build_engine, choose_engine
from rms_deploy.engine.parser_input import count_unfused
from rms_deploy.engine.progress import BuildProgress, OnProgress, interruptible
from rms_deploy.engine.record import EngineRecord, recorded_layers
from rms_deploy.engine.residual_shapes import check_residuals
from rms_deploy.engine.source_model import source_model
from rms_deploy.errors import InputError, OutputError
from rms_deploy.onnx_model.file_hashes import model_hashes
from rms_deploy.onnx_model.optimization_profiles import guessed_inputs, resolve_profiles
from rms_deploy.onnx_model.signature import input_specs, output_specs
from rms_deploy.output_file import atomic_path, check_output
from rms_deploy.runtime.gpus import gpus
from rms_deploy.runtime.machine import versions
from rms_deploy.runtime.tensorrt_api import tensorrt

__all__ = ["build"]

_log = logging.getLogger(__name__)

_GivenProfiles = Sequence[Mapping[str, Sequence[Sequence[int]]]]


def build(
    model: str | os.PathLike[str] | onnx.ModelProto | ir.Model,
    output: str | os.PathLike[str],
    *,
    runtime: str | None = None,
    norm: Literal["plugin", "decomposed", "auto"] = "auto",
    optimization_profiles: _GivenProfiles = (),
    devices: Sequence[str] = (),
    workspace: int | None = None,
    timing_cache: str | os.PathLike[str] | None = None,
    opt_level: int | None = None,
    version_compatible: bool = False,
    hardware_compatible: bool = False,
    strip_weights: bool = False,
    refit: bool = False,
    embed_plugin: bool = True,
    on_progress: OnProgress | None = None,
) -> EngineRecord:
    """Build an engine from an ONNX model, prove how its norms run, and write it, with `<output>.json` beside it.

    Types are those of the model: the network is strongly typed in every version. Ctrl-C stops the build and leaves
    nothing.

    Args:
        model: a file, a proto or an onnx-ir model. Norms that are not fused stay what they are; run `fuse` first.
        output: the engine.
        runtime: "tensorrt" or "tensorrt-rtx"; default: the one that is installed.
        norm: what the fused norms become. plugin: our kernels; decomposed: Pow, ReduceMean and so on, statistics in
            float32, for TensorRT to fuse with their neighbours; auto: both are built and timed on this GPU, then some
            engines in which norms of one kind and size differ, and the fastest is kept; without a GPU, or where the
            plugins fail: decomposed.
        optimization_profiles: of each, the smallest, usual and largest shape of each input by name; default: one, of
            which a dynamic dimension goes from 1 to 16 times the size that the other functions guess.
        devices: compute capabilities to build for, such as sm120, with or without a GPU; TensorRT-RTX only. Default:
            this GPU; for TensorRT-RTX, all that it knows.
        workspace: MiB of device memory that layers may use; default: all.
        timing_cache: a file that is read if it is there, and written afterwards.
        opt_level: 0 to 5; default: the runtime's.
        version_compatible: the engine also runs in later versions of TensorRT.
        hardware_compatible: the engine also runs on other GPUs, from Ampere on.
        strip_weights: leave out the weights that a refit puts back.
        refit: the weights can be replaced later.
        embed_plugin: write the plugin library into the engine; without, the program that runs it loads the library.
        on_progress: is called with the part of the build that is done, 0 to 1, and the name of the phase.

    Raises:
        InputError: an option or a shape that does not fit.
        ModelFileError: the model cannot be read.
        OutputError: the output cannot be written, or is the model itself.
        MissingDependencyError: the runtime is not installed.
        InstallationError: the plugin library is not built.
        EngineError: TensorRT refuses the model, the build fails, or its norms are not what was asked for.
    """
    _check_targets(model, output, timing_cache)
    _check_options(norm, opt_level, workspace)
    api = tensorrt(runtime)
    with source_model(model) as source:
        profiles = resolve_profiles(source.model, optimization_profiles)
        check_residuals(source.model, profiles)
        options = BuildOptions(
            optimization_profiles=profiles,
            devices=tuple(device.lower() for device in devices),
            workspace=None if workspace is None else workspace << 20,
            opt_level=opt_level,
            version_compatible=version_compatible,
            hardware_compatible=hardware_compatible,
            strip_weights=strip_weights,
            refit=refit,
            timing_cache=None if timing_cache is None else _content(timing_cache),
        )
        request = EngineRequest(api, source, options, embed_plugin, BuildProgress(on_progress))
        unfused = count_unfused(source.model)
        if unfused and norm != "decomposed":  # what a runtime has as one op may stay so
            _log.warning("%s: %d norms are not fused; run `rms_deploy.fuse` first", source.name, unfused)
        start = perf_counter()
        engine = interruptible(
            lambda: choose_engine(request) if norm == "auto" else build_engine(request, norm), request.progress
        )
        record = EngineRecord(
            engine=os.fspath(output),
            seconds=round(perf_counter() - start, 3),
            unfused_count=unfused,
            notes=(*_notes(request, optimization_profiles), *engine.notes),
            **_described(request, engine),
        )
    _write(Path(output), engine.plan, record, timing_cache)
    return record


def _check_options(norm: str, opt_level: int | None, workspace: int | None) -> None:
    if norm not in ("plugin", "decomposed", "auto"):
        raise InputError(f"norm {norm!r} is not known; use plugin, decomposed or auto")
    if opt_level is not None and not 0 <= opt_level <= 5:
        raise InputError(f"`opt_level` is {opt_level}; use 0 to 5")
    if workspace is not None and not 1 <= workspace < 2**43:  # 2^63 bytes
        raise InputError(f"`workspace` is {workspace} MiB; use 1 to {2**43 - 1}")


def _check_targets(
    model: str | os.PathLike[str] | onnx.ModelProto | ir.Model,
    output: str | os.PathLike[str],
    timing_cache: str | os.PathLike[str] | None,
) -> None:
    """Each file can be written, and none takes the place of another or of the model."""
    taken = {} if isinstance(model, onnx.ModelProto | ir.Model) else {Path(model).resolve(): "the model"}
    files = {"the engine": output, "the engine's record": f"{os.fspath(output)}.json", "the timing cache": timing_cache}
    for what, path in files.items():
        if path is None:
            continue
        check_output(path)
        other = taken.setdefault(Path(path).resolve(), what)
        if other != what:
            raise OutputError(f"{os.fspath(path)}: {what} would take the place of {other}; give another name")


def _content(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a timing cache; none if there is no such file yet."""
    try:
        return Path(path).read_bytes() if Path(path).exists() else b""
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _described(request: EngineRequest, engine: BuiltEngine) -> dict[str, Any]:
    """The fields of the record that follow from what was asked for and what was built."""
    api, source, options = request.api, request.source, request.options
    others = ("workspace", "opt_level", "version_compatible", "hardware_compatible", "strip_weights", "refit")
    return {
        "bytes": engine.plan.data.nbytes,
        "runtime": api.name,
        "runtime_version": api.version,
        "devices": options.devices,
        "optimization_profiles": options.optimization_profiles,
        "inputs": {name: spec.to_dict() for name, spec in input_specs(source.model).items()},
        "outputs": {name: spec.to_dict() for name, spec in output_specs(source.model).items()},
        "norm": engine.norm,
        "reason": engine.reason,
        "timings": engine.timings,
        "norms": engine.norms,
        "layers": recorded_layers(engine.plan.layers),
        "plugin": engine.plugin,
        "model": model_hashes(source.path, source.model),
        "options": {name: getattr(options, name) for name in others},
        "rms_deploy": versions().get("rms-deploy", ""),
    }


def _notes(request: EngineRequest, given: _GivenProfiles) -> Iterator[str]:
    options, api = request.options, request.api
    if guessed := guessed_inputs(request.source.model, given):
        ranges = ", ".join(f"{name}={options.optimization_profiles[0][name]}" for name in guessed)
        yield f"the shapes {ranges} were guessed; `optimization_profiles` sets them"
    for gpu in gpus() if api.is_rtx and not options.devices else ():
        if not api.runs_on(gpu.capability):
            known = ", ".join(api.capabilities())
            yield f"the engine does not run on {gpu.name} ({gpu.capability}): {api.name} knows {known} and newer"
    if options.timing_cache is not None and not api.keeps_timings:
        yield f"{api.name} times nothing when it builds: its timing cache holds no timings"


def _write(output: Path, plan: Plan, record: EngineRecord, timing_cache: str | os.PathLike[str] | None) -> None:
    """The engine and what is beside it, all or nothing."""
    try:
        with ExitStack() as stack:
            written = stack.enter_context(atomic_path(output))
            described = stack.enter_context(atomic_path(f"{output}.json"))
            with written.open("wb") as file:
                file.write(plan.data)
            described.write_text(json.dumps(record.to_dict(), indent=2) + "\n", encoding="utf-8")
            if timing_cache is not None and plan.timing_cache is not None:
                with atomic_path(timing_cache) as cached:
                    cached.write_bytes(plan.timing_cache)
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror or error}") from error
