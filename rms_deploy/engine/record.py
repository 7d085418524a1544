"""What `build` made, as it stands in the JSON file beside the engine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from rms_deploy.benchmark.latency import Latency, Speedup
from rms_deploy.engine.parser_input import NormChoice
from rms_deploy.onnx_model.optimization_profiles import Profile

__all__ = ["EngineRecord", "NormTiming", "file_hash", "model_hashes"]


@dataclass(frozen=True)
class NormTiming:
    """Both engines of `norm="auto"`, timed in turns at the usual shapes of the first profile; microseconds."""

    plugin: Latency
    decomposed: Latency
    speedup: Speedup
    """How many times faster the plugin is."""


@dataclass(frozen=True)
class EngineRecord:
    """An engine that was built."""

    engine: str
    bytes: int
    seconds: float
    runtime: str
    runtime_version: str
    devices: tuple[str, ...]
    """Compute capabilities asked for; none: the runtime's own choice."""
    profiles: tuple[Profile, ...]
    norm: NormChoice
    reason: str
    """Why this choice."""
    timing: NormTiming | None
    """None: nothing was timed."""
    norms: int
    """Fused norms of the model."""
    plugin_layers: int
    """Those that are plugin layers of the network."""
    unfused: int
    """Norms that are not fused, though `fuse` would take them."""
    plugin: Mapping[str, Any] | None
    """The library's name, hash, and whether the engine holds it; None: the engine needs none."""
    model: Mapping[str, str]
    """SHA-256 of the model's file and of each file with its weights, by name."""
    options: Mapping[str, Any]
    rms_deploy: str
    """Our version."""
    notes: tuple[str, ...] = ()
    """What the user should know."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        result = {
            **asdict(self),
            "profiles": [{name: r._asdict() for name, r in profile.items()} for profile in self.profiles],
        }
        if self.timing is not None:
            result["timing"]["speedup"]["verdict"] = self.timing.speedup.verdict
        return result


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def model_hashes(path: str | os.PathLike[str], model: ir.Model) -> dict[str, str]:
    """SHA-256 of a model's file and of each file that its weights lie in, by name."""
    path = Path(path)
    tensors = (value.const_value for graph in model.graphs() for value in graph.initializers.values())
    data = {os.fspath(tensor.location) for tensor in tensors if isinstance(tensor, ir.ExternalTensor)}
    return {path.name: file_hash(path)} | {name: file_hash(path.parent / name) for name in sorted(data)}
