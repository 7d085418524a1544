"""What a benchmark measured, and what may be said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from rms_deploy.benchmark.device_times import DeviceTimes
from rms_deploy.benchmark.latency import Latency, Speedup
from rms_deploy.benchmark.method import Method
from rms_deploy.benchmark.operator_times import OperatorTimes
from rms_deploy.benchmark.provenance import Provenance
from rms_deploy.benchmark.server_times import ServerTimes

__all__ = ["FORMAT", "BenchmarkResult", "CandidateResult", "Point", "parts", "point_name"]

FORMAT: Final = 3
"""Number of the format of all benchmark files; it grows when a field gets another name or meaning."""


@dataclass(frozen=True)
class CandidateResult:
    """One candidate: its latency, or why there is none."""

    model: str
    """The file, the name of a torch module, the URL of an endpoint; of a model that was given in memory its place, such
    as `model 2`."""
    library: bool = True
    """Whether our custom-op library was registered; without it, ONNX Runtime's own kernels run our norms."""
    name: str = ""
    """In tables; default: `model`."""
    runtime: str = "onnxruntime"
    note: str = ""
    """What a reader should know of it."""
    norm_counts: Mapping[str, int] = field(default_factory=dict)
    """How many norms of each form the file has, such as `fused RMSNorm`."""
    failure: str | None = None
    latency: Latency | None = None
    load_seconds: float | None = None
    first_run_seconds: float | None = None
    settled: bool | None = None
    """Whether its latency drifted no more when the warm-up ended."""
    memory_before: int | None = None
    """Bytes that the process held before it loaded the model: Python, and the runtime's library."""
    peak_memory: int | None = None
    """Bytes that the process held at most, all in all; None for an endpoint, whose model lies in the server."""
    speedup: Speedup | None = None
    """None for the first candidate, and where this or the first failed."""
    operator_times: OperatorTimes | None = None
    """None: they were not asked for, or its runtime does not tell them."""
    server: ServerTimes | None = None
    """Of an endpoint; None: its server does not tell them."""
    device_times: DeviceTimes | None = None
    """Of an engine; None of anything else."""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.model)


@dataclass(frozen=True)
class Point:
    """All candidates on inputs of the same shapes."""

    candidates: tuple[CandidateResult, ...]
    shapes: Mapping[str, tuple[int, ...]]
    dims: Mapping[str, int] = field(default_factory=dict)
    """The sizes that the sweep gave, and `concurrency` where several were asked for; none if there was no sweep."""
    part: str = ""
    """The model, or the kind of machine, where points of one result differ in it."""
    provenance: Provenance | None = None
    """Where and when it was measured; None: as the whole result was."""
    again: CandidateResult | None = None
    """The first candidate a second time, in the same launches, with "(A/A)" after its name: what its `speedup` shows is
    noise. None: there is nothing to compare, or there are too few launches."""


@dataclass(frozen=True)
class BenchmarkResult:
    """The result of `bench`, with all that is needed to run it again."""

    points: tuple[Point, ...]
    """One, or one for each step of the sweep."""
    method: Method
    provenance: Provenance
    inspection: Mapping[str, Any] = field(default_factory=dict)
    """The norms of the first model, as `inspect` lists them."""

    @property
    def candidates(self) -> tuple[CandidateResult, ...]:
        """Those of the first point."""
        return self.points[0].candidates

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Those of the first point."""
        return self.points[0].shapes

    @property
    def failed(self) -> bool:
        """Whether a candidate has no latency."""
        return any(candidate.failure is not None for point in self.points for candidate in point.candidates)

    @property
    def undecided(self) -> bool:
        """Whether a comparison has too few launches for a verdict."""
        speedups = [candidate.speedup for point in self.points for candidate in point.candidates]
        return any(speedup is not None and speedup.verdict == "too few launches" for speedup in speedups)

    def to_dict(self) -> dict[str, Any]:
        """For JSON. Latencies are in microseconds, memory in bytes."""
        data = {"format": FORMAT, **asdict(self), "failed": self.failed, "undecided": self.undecided}
        for point, written in zip(self.points, data["points"], strict=True):
            pairs = [*zip(point.candidates, written["candidates"], strict=True), (point.again, written["again"])]
            for candidate, row in pairs:
                if candidate is not None and candidate.speedup is not None:
                    row["speedup"]["verdict"] = candidate.speedup.verdict
        return data


def point_name(point: Point) -> str:
    """The part and the step of a sweep, such as `batch 1, seq 128`; empty if there was none."""
    return ", ".join(filter(None, (point.part, *(f"{name} {size}" for name, size in point.dims.items()))))


def parts(result: BenchmarkResult) -> list[list[Point]]:
    """The points of each part, which differ in sizes only."""
    found: dict[str, list[Point]] = {}
    for point in result.points:
        found.setdefault(point.part, []).append(point)
    return list(found.values())
