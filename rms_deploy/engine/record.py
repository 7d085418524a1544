"""What `build` made, as it stands in the JSON file beside the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rms_deploy.benchmark.latency import Latency, Speedup
from rms_deploy.display import Displayed, Table
from rms_deploy.engine.builder import NetworkLayer
from rms_deploy.engine.parser_input import NormChoice
from rms_deploy.onnx_model.optimization_profiles import OptimizationProfile

__all__ = ["EngineNorm", "EngineRecord", "NormTiming", "recorded_layers"]


@dataclass(frozen=True)
class NormTiming:
    """Two engines of `norm="auto"`, timed one after the other at the usual shapes of the first optimization profile.

    In microseconds.
    """

    plugins: tuple[str, ...]
    """The kinds of norms that are plugins in this engine, such as `RMSNorm 4096 float16`; the others are decomposed."""
    against: tuple[str, ...]
    """The same of the engine that it is compared with, the best so far."""
    latency: Latency
    latency_against: Latency
    speedup: Speedup
    """How many times faster it is than the one that it is compared with."""
    cuda_graph: bool
    """Whether both ran as CUDA graphs."""


@dataclass(frozen=True)
class EngineNorm:
    """A fused norm of the model that an engine was built from."""

    name: str
    """Of its node."""
    op: str
    """Such as AddRMSNorm."""
    layer: str | None
    """The plugin layer that computes it; None: layers of TensorRT's own do."""


@dataclass(frozen=True, repr=False)
class EngineRecord(Displayed):
    """An engine that was built."""

    engine: str
    bytes: int
    seconds: float
    runtime: str
    runtime_version: str
    devices: tuple[str, ...]
    """Compute capabilities asked for; none: those that the runtime chooses."""
    optimization_profiles: tuple[OptimizationProfile, ...]
    inputs: Mapping[str, Mapping[str, Any]]
    """dtype and shape of each input of the model, as `TensorSpec.to_dict` writes them."""
    outputs: Mapping[str, Mapping[str, Any]]
    norm: NormChoice
    reason: str
    """Why this choice."""
    timings: tuple[NormTiming, ...]
    """What was timed, in order; none where only one engine was built."""
    norms: tuple[EngineNorm, ...]
    """The fused norms of the model."""
    unfused_count: int
    """How many more norms `fuse` would take."""
    layers: Mapping[str, str]
    """Layers of the network that come from a node of the model: type by name, such as ELEMENTWISE, before TensorRT
    fuses them."""
    plugin: Mapping[str, Any] | None
    """The library's name, hash, and whether the engine holds it; None: the engine needs none."""
    model: Mapping[str, str]
    """SHA-256 of the model's file and of each file with its weights, by name."""
    options: Mapping[str, Any]
    rms_deploy: str
    """Our version."""
    notes: tuple[str, ...] = ()
    """What the user should know."""

    @property
    def norm_count(self) -> int:
        """How many fused norms the model has."""
        return len(self.norms)

    @property
    def plugin_count(self) -> int:
        """How many of them are plugin layers of the network."""
        return sum(norm.layer is not None for norm in self.norms)

    def tables(self) -> Iterable[Table]:
        """The engines that were timed, in order."""
        rows = []
        for timing in self.timings:
            low, high = timing.speedup.low, timing.speedup.high
            plugins, against = (", ".join(kinds) or "none" for kinds in (timing.plugins, timing.against))
            interval = "" if low is None else f"{low:.3f} ... {high:.3f}"
            median, ratio = f"{timing.latency.median:.1f} us", f"{timing.speedup.value:.3f}x"
            rows.append((plugins, against, median, ratio, interval, timing.speedup.verdict))
        header = ("plugins", "against", "median", "times faster", "95 % interval", "verdict")
        if rows:
            yield Table(header, rows, left=2, first_to_go=("95 % interval", "against"))

    def _line(self) -> str:
        size = f"{self.bytes / 2**20:.1f} MiB in {self.seconds:.1f} s"
        plugins = f"{self.plugin_count} of {self.norm_count} norms are plugin layers"
        return f"{self.engine}, {self.runtime} {self.runtime_version}, {size}; {plugins}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        profiles = [{name: r._asdict() for name, r in profile.items()} for profile in self.optimization_profiles]
        result = {**asdict(self), "optimization_profiles": profiles}
        for written, timing in zip(result["timings"], self.timings, strict=True):
            written["speedup"]["verdict"] = timing.speedup.verdict
        layers = result.pop("layers")  # many lines, so they come last
        return {**result, "norm_count": self.norm_count, "plugin_count": self.plugin_count, "layers": layers}


def recorded_layers(layers: Iterable[NetworkLayer]) -> dict[str, str]:
    """The type of each layer that comes from a node, by name; the index is added to a name that is there already."""
    recorded: dict[str, str] = {}
    for index, layer in enumerate(layers):
        if layer.is_node:
            recorded[f"{layer.name} ({index})" if layer.name in recorded else layer.name] = layer.type
    return recorded
