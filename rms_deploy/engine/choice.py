"""One engine, or the fastest of several; the norms of each are proven to be what was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Final

from rms_deploy.benchmark.latency import Speedup
from rms_deploy.engine.builder import BuildOptions, Plan, build_plan
from rms_deploy.engine.greedy import greedy
from rms_deploy.engine.parser_input import (
    NormChoice,
    NormKind,
    fused_norms,
    norm_kinds,
    with_decomposed_norms,
    with_plugin_norms,
)
from rms_deploy.engine.progress import BuildProgress
from rms_deploy.engine.record import EngineNorm, NormTiming
from rms_deploy.engine.source_model import SourceModel
from rms_deploy.engine.timing import TimedPlan, time_engines
from rms_deploy.errors import EngineError, InputError, InstallationError, MissingDependencyError, RmsDeployError
from rms_deploy.onnx_model.file_hashes import file_hash
from rms_deploy.onnx_model.inputs import random_inputs
from rms_deploy.runtime.gpus import gpu_problem, gpus
from rms_deploy.runtime.tensorrt_api import TensorRT
from rms_deploy.runtime.tensorrt_plugin import load_plugins

__all__ = ["BuiltEngine", "EngineRequest", "build_engine", "choose_engine"]

_TIMES_AS_LONG: Final = 2
"""As what the first two engines took, and no longer, `norm="auto"` looks for a better one."""


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
    timings: tuple[NormTiming, ...] = ()
    notes: tuple[str, ...] = ()


def choose_engine(request: EngineRequest) -> BuiltEngine:
    """The fastest engine on this GPU of those that `greedy` tries; the decomposed one where none is faster.

    The decomposed one needs nothing of ours, and comes first. What fails to build, load or run with plugins is not
    taken, and a note says why.

    Raises:
        EngineError: the decomposed engine cannot be built, or the build is cancelled.
    """
    began = monotonic()
    decomposed = build_engine(request, "decomposed")
    why_not = _why_not_timed(request)
    if why_not:
        return replace(decomposed, reason=f"{why_not}, so the decomposed norms were taken")
    search = _Search(request, norm_kinds(request.source.model), decomposed, began)
    return search.result(greedy(tuple(search.kinds), search.is_faster, goes_on=search.goes_on))


class _Search:
    """The engines of one model, by the kinds of norms that are plugins in them."""

    def __init__(
        self, request: EngineRequest, kinds: Mapping[NormKind, frozenset[str]], decomposed: BuiltEngine, began: float
    ) -> None:
        """`began`: when the first build did, by `monotonic`."""
        shapes = {name: shapes.opt for name, shapes in request.options.optimization_profiles[0].items()}
        self.request = request
        self.kinds = kinds
        self.feeds = random_inputs(request.source.model, shapes)
        self.timings: list[NormTiming] = []
        self.notes: list[str] = []
        self.began = began
        self.until: float | None = None
        self.is_hopeless = False
        """Whether no engine can have plugins or run here."""
        # Only the best is kept, as a plan may be gigabytes.
        self.best, self.engine = frozenset[NormKind](), decomposed

    def is_faster(self, candidate: frozenset[NormKind], other: frozenset[NormKind]) -> bool:
        """Build the candidate, time it beside the other, the best so far, and keep it if it is faster."""
        assert other == self.best
        try:
            engine = self._built(candidate)
            times = time_engines(self.request.api, self._timed(engine), self._timed(self.engine), self.feeds)
        except RmsDeployError as error:
            if self.request.progress.cancelled.is_set():
                raise
            self.notes.append(f"an engine with {self._said(candidate)} as plugins was not taken: {error}")
            self.is_hopeless = isinstance(error, InstallationError | MissingDependencyError)
            return False
        speedup = Speedup.of(times.other, times.candidate)
        names, against = self._listed(candidate), self._listed(other)
        self.timings.append(NormTiming(names, against, times.candidate, times.other, speedup, times.cuda_graph))
        if speedup.verdict != "faster":
            return False
        self.best, self.engine = candidate, engine
        return True

    def goes_on(self) -> bool:
        """Whether there is time for another engine; it is asked when the first two were timed."""
        now = monotonic()
        if self.until is None:
            self.until = self.began + _TIMES_AS_LONG * (now - self.began)
        return now < self.until and not self.is_hopeless

    def result(self, kinds: frozenset[NormKind]) -> BuiltEngine:
        """The engine with plugins for these kinds, which is the best, and how it was found."""
        assert kinds == self.best
        fastest = next((t for t in reversed(self.timings) if t.speedup.verdict == "faster"), None)
        reason = "no engine with plugins was faster"
        if fastest is not None:
            other = "plugins for " + ", ".join(fastest.against) if fastest.against else "no plugins"
            what = "the plugins are" if len(kinds) == len(self.kinds) else f"plugins for {self._said(kinds)} are"
            reason = f"{what} {fastest.speedup.value:.3f} times as fast as {other}"
        return replace(self.engine, reason=reason, timings=tuple(self.timings), notes=tuple(self.notes))

    def _built(self, kinds: frozenset[NormKind]) -> BuiltEngine:
        options = replace(self.request.options, timing_cache=self.engine.plan.timing_cache)
        progress = BuildProgress(self.request.progress.report, self.request.progress.cancelled)
        request = replace(self.request, options=options, progress=progress)
        return build_engine(request, "mixed" if len(kinds) < len(self.kinds) else "plugin", self._names(kinds))

    def _names(self, kinds: frozenset[NormKind]) -> frozenset[str]:
        return frozenset(name for kind in kinds for name in self.kinds[kind])

    def _timed(self, engine: BuiltEngine) -> TimedPlan:
        embeds = engine.plugin is not None and self.request.embed_plugin
        return TimedPlan(engine.plan.data, embeds, self.request.options.version_compatible)

    def _said(self, kinds: frozenset[NormKind]) -> str:
        return "all norms" if len(kinds) == len(self.kinds) else ", ".join(self._listed(kinds))

    def _listed(self, kinds: frozenset[NormKind]) -> tuple[str, ...]:
        return tuple(str(kind) for kind in self.kinds if kind in kinds)


def build_engine(request: EngineRequest, norm: NormChoice, names: Set[str] | None = None) -> BuiltEngine:
    """Build with this choice, and prove that every fused norm is a plugin layer of the network, or that none is.

    Args:
        request: what is to be built.
        norm: the choice.
        names: of the norms that become plugins, where some are; None: all, or none if they are decomposed.

    Raises:
        InputError: plugins are asked for, and the model has no fused norm.
        InstallationError: the plugin library is not built.
        EngineError: the build fails, or its norms are not what was asked for.
    """
    library = None
    if norm == "decomposed":
        model, norms, names = with_decomposed_norms(request.source.model), fused_norms(request.source.model), set()
    else:
        model, norms = with_plugin_norms(request.source.model, names)
        names = {name for name, _ in norms} if names is None else names
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
    _prove(request.source.name, names, plan)
    plugin: dict[str, Any] | None = None
    if library is not None:
        plugin = {"library": library.name, "sha256": file_hash(library), "embedded": request.embed_plugin}
    engine_norms = tuple(EngineNorm(name, op, name if name in names else None) for name, op in norms)
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
