"""One engine, or the faster of two; the norms of each are proven to be what was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

from rms_deploy.engine.builder import BuildOptions, Plan, build_plan
from rms_deploy.engine.parser_input import NormChoice, fused_norms, with_decomposed_norms, with_plugin_norms
from rms_deploy.engine.progress import BuildProgress
from rms_deploy.engine.record import EngineNorm, NormTiming
from rms_deploy.engine.source_model import SourceModel
from rms_deploy.engine.timing import time_engines
from rms_deploy.errors import EngineError, InputError
from rms_deploy.onnx_model.file_hashes import file_hash
from rms_deploy.runtime.gpus import gpu_problem, gpus
from rms_deploy.runtime.tensorrt_api import TensorRT
from rms_deploy.runtime.tensorrt_plugin import load_plugins

__all__ = ["BuiltEngine", "EngineRequest", "build_engine", "choose_engine"]


@dataclass(frozen=True)
class EngineRequest:
    """What is to be built."""

    api: TensorRT
    source: SourceModel
    options: BuildOptions
    embed_plugin: bool
    progress: BuildProgress


@dataclass(frozen=True)
class BuiltEngine:
    """An engine, not yet written."""

    plan: Plan
    norm: NormChoice
    norms: tuple[EngineNorm, ...]
    plugin: Mapping[str, Any] | None
    reason: str = "as asked for"
    timing: NormTiming | None = None


def choose_engine(request: EngineRequest) -> BuiltEngine:
    """The faster of both engines on this GPU; the decomposed one where they are equally fast, or cannot be timed.

    Raises:
        InstallationError: there is a GPU, and the plugin library is not built.
        EngineError: a build fails, or an engine does not run.
    """
    why_not = _why_not_timed(request)
    if why_not:
        return replace(build_engine(request, "decomposed"), reason=f"{why_not}, so the decomposed norms were taken")
    plugin = build_engine(request, "plugin")
    options = replace(request.options, timing_cache=plugin.plan.timing_cache)
    again = BuildProgress(request.progress.report, request.progress.cancelled)
    decomposed = build_engine(replace(request, options=options, progress=again), "decomposed")
    timing = time_engines(
        request.api,
        plugin.plan.data,
        decomposed.plan.data,
        request.source.model,
        request.options.optimization_profiles[0],
        embedded=request.embed_plugin,
    )
    faster = timing.speedup.verdict == "faster"
    reason = f"the plugins are {timing.speedup.value:.3f} times as fast ({timing.speedup.verdict})"
    return replace(plugin if faster else decomposed, reason=reason, timing=timing)


def build_engine(request: EngineRequest, norm: NormChoice) -> BuiltEngine:
    """Build with this choice, and prove that every fused norm is a plugin layer of the network, or that none is.

    Raises:
        InputError: plugins are asked for, and the model has no fused norm.
        InstallationError: the plugin library is not built.
        EngineError: the build fails, or its norms are not what was asked for.
    """
    library = None
    if norm == "decomposed":
        model, norms = with_decomposed_norms(request.source.model), fused_norms(request.source.model)
    else:
        model, norms = with_plugin_norms(request.source.model)
        library = load_plugins(request.api)
        if not norms:
            raise InputError(
                f"{request.source.name}: has no fused norm, so no plugin; run `rms_deploy.fuse` first, "
                'or `norm="decomposed"` builds it'
            )
    plan = build_plan(
        request.api,
        model,
        request.source,
        request.options,
        embedded=library if request.embed_plugin else None,
        progress=request.progress,
    )
    _prove(request.source.name, frozenset() if library is None else {name for name, _ in norms}, plan)
    plugin: dict[str, Any] | None = None
    if library is not None:
        plugin = {"library": library.name, "sha256": file_hash(library), "embedded": request.embed_plugin}
    engine_norms = tuple(EngineNorm(name, op, None if library is None else name) for name, op in norms)
    return BuiltEngine(plan, norm, engine_norms, plugin)


def _prove(where: str, names: Set[str], plan: Plan) -> None:
    """The plugin layers of the network are those of these names."""
    found = {layer.name for layer in plan.layers if layer.is_norm}
    if missing := sorted(names - found):
        raise EngineError(
            f"{where}: {len(missing)} of {len(names)} fused norms did not become plugins, the first is {missing[0]}; "
            "`rms_deploy.doctor` says why"
        )
    if more := sorted(found - names):
        raise EngineError(f"{where}: {len(more)} layers became plugins that should not, the first is {more[0]}")


def _why_not_timed(request: EngineRequest) -> str:
    if not fused_norms(request.source.model):
        return "the model has no fused norm"
    here, devices = gpus(), request.options.devices
    if not here:
        return f"both are timed on a GPU, and {gpu_problem()}"
    if devices and here[0].capability not in devices:
        return f"the GPU here is {here[0].capability}, which the engine is not built for"
    if request.options.strip_weights:
        return "an engine without its weights does not run"
    return ""
