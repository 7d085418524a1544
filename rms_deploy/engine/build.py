"""`build`: an engine of TensorRT or TensorRT-RTX, its norms as our plugins or as TensorRT's own layers, and proof."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import rms_deploy
from rms_deploy.engine.builder import BuildOptions, Plan
from rms_deploy.engine.choice import EngineRequest, build_engine, choose_engine
from rms_deploy.engine.parser_input import unfused_norms
from rms_deploy.engine.progress import BuildProgress, OnProgress, interruptible
from rms_deploy.engine.record import EngineRecord, model_hashes
from rms_deploy.errors import InputError, OutputError
from rms_deploy.onnx_model.file import load_model
from rms_deploy.onnx_model.optimization_profiles import guessed_inputs, resolve_profiles
from rms_deploy.output_file import atomic_path, check_output
from rms_deploy.runtime.tensorrt_api import tensorrt

__all__ = ["build"]

_log = logging.getLogger(__name__)


def build(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    runtime: str | None = None,
    norm: Literal["plugin", "decomposed", "auto"] = "auto",
    shapes: Sequence[Mapping[str, Sequence[Sequence[int]]]] = (),
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
    """Build an engine from an ONNX file, prove how its norms run, and write it, with `<output>.json` beside it.

    Types are those of the model: the network is strongly typed in every version. Ctrl-C stops the build and leaves
    nothing.

    Args:
        model: the file. Norms that are not fused stay what they are; run `fuse` first.
        output: the engine.
        runtime: "tensorrt" or "tensorrt-rtx"; default: the one that is installed.
        norm: what the fused norms become. plugin: our kernels; decomposed: Pow, ReduceMean and so on, statistics in
            float32, for TensorRT to fuse with their neighbours; auto: both are built and timed on this GPU, and the
            faster is kept; without a GPU: decomposed.
        shapes: a profile each: for each input its smallest, usual and largest shape; see `resolve_profiles`.
        devices: compute capabilities to build for, such as sm120, with or without a GPU; TensorRT-RTX only. Default:
            this GPU; for TensorRT-RTX, all that it knows.
        workspace: MiB of device memory that layers may use; default: all.
        timing_cache: a file that is read if it is there, and written afterwards.
        opt_level: 0 to 5; default: the runtime's.
        version_compatible: the engine also runs in later versions of TensorRT.
        hardware_compatible: the engine also runs on other GPUs, from Ampere on.
        strip_weights: leave weights out that a refit puts back.
        refit: the weights can be replaced later.
        embed_plugin: write the plugin library into the engine; without, the program that runs it loads the library.
        on_progress: is called with the part that is done, 0 to 1, and the name of the phase.

    Raises:
        InputError: an option or a shape that does not fit.
        ModelFileError: the model cannot be read.
        OutputError: the output cannot be written, or is the model itself.
        MissingDependencyError: the runtime is not installed.
        InstallationError: the plugin library is not built.
        EngineError: TensorRT refuses the model, the build fails, or its norms are not what was asked for.
    """
    _check_targets(model, output, timing_cache)
    if norm not in ("plugin", "decomposed", "auto"):
        raise InputError(f"norm {norm!r} is not known; use plugin, decomposed or auto")
    if opt_level is not None and not 0 <= opt_level <= 5:
        raise InputError(f"opt_level is {opt_level}; use 0 to 5")
    if workspace is not None and not 1 <= workspace < 2**43:  # 2^63 bytes
        raise InputError(f"workspace is {workspace} MiB; use 1 to {2**43 - 1}")
    api = tensorrt(runtime)
    source = load_model(model)
    options = BuildOptions(
        profiles=resolve_profiles(source, shapes),
        devices=tuple(device.lower() for device in devices),
        workspace=None if workspace is None else workspace << 20,
        opt_level=opt_level,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        strip_weights=strip_weights,
        refit=refit,
        timing_cache=None if timing_cache is None else _content(timing_cache),
    )
    request = EngineRequest(api, source, model, options, embed_plugin, BuildProgress(on_progress))
    unfused = unfused_norms(source)
    if unfused:
        _log.warning("%s: %d norms are not fused; run rms-deploy fuse first", os.fspath(model), unfused)
    start = perf_counter()
    engine = interruptible(
        lambda: choose_engine(request) if norm == "auto" else build_engine(request, norm), request.progress
    )
    record = EngineRecord(
        engine=os.fspath(output),
        bytes=engine.plan.data.nbytes,
        seconds=round(perf_counter() - start, 3),
        runtime=api.name,
        runtime_version=api.version,
        devices=options.devices,
        profiles=options.profiles,
        norm=engine.norm,
        reason=engine.reason,
        timing=engine.timing,
        norms=engine.norms,
        plugin_layers=len(engine.plan.plugin_layers),
        unfused=unfused,
        plugin=engine.plugin,
        model=model_hashes(model, source),
        options=_recorded(options),
        rms_deploy=rms_deploy.__version__,
        notes=tuple(_notes(request, shapes)),
    )
    _write(Path(output), engine.plan, record, timing_cache)
    return record


def _check_targets(
    model: str | os.PathLike[str], output: str | os.PathLike[str], timing_cache: str | os.PathLike[str] | None
) -> None:
    """Each file can be written, and none takes the place of another or of the model."""
    taken = {Path(model).resolve(): "the model"}
    files = {"the engine": output, "the engine's record": f"{os.fspath(output)}.json", "the timing cache": timing_cache}
    for what, path in files.items():
        if path is None:
            continue
        check_output(path)
        other = taken.setdefault(Path(path).resolve(), what)
        if other != what:
            raise OutputError(f"{os.fspath(path)}: {what} would take the place of {other}; give another name")


def _content(path: str | os.PathLike[str]) -> bytes:
    """Of a timing cache; nothing if there is none yet."""
    try:
        return Path(path).read_bytes() if Path(path).exists() else b""
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _recorded(options: BuildOptions) -> dict[str, Any]:
    """What stands in no other field of the record."""
    names = ("workspace", "opt_level", "version_compatible", "hardware_compatible", "strip_weights", "refit")
    return {name: getattr(options, name) for name in names}


def _notes(request: EngineRequest, shapes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    options, api = request.options, request.api
    if guessed := guessed_inputs(request.model, shapes):
        ranges = ", ".join(f"{name}={options.profiles[0][name]}" for name in guessed)
        yield f"the shapes were guessed: --shapes {ranges}"
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
