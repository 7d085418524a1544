"""Where the time of one run of an engine goes, between the host and the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rms_deploy.runtime.tensorrt_session import BoundRun

__all__ = ["DeviceTimes", "split"]

_RUNS: Final = 21
"""So many that one slow run does not move the median."""


@dataclass(frozen=True)
class DeviceTimes:
    """Medians in microseconds, as trtexec divides a query.

    The latency of a run is measured with inputs and outputs on the GPU: it holds `compute` and what of `enqueue` the
    GPU waits for, but no copies.
    """

    enqueue: float
    """Host: until the run, or its CUDA graph, is on the stream (trtexec: Enqueue Time)."""
    compute: float
    """GPU: from the first kernel of the run to the last (trtexec: GPU Compute Time)."""
    upload: float
    """GPU: copies of all inputs from the host (trtexec: H2D Latency, from memory that is pinned)."""
    download: float
    """GPU: copies of all outputs to the host (trtexec: D2H Latency, to memory that is pinned)."""

    @classmethod
    def median_of(cls, launches: Sequence[DeviceTimes]) -> DeviceTimes | None:
        """Of several launches, field by field; None of none."""
        if not launches:
            return None
        return cls(*(median(getattr(each, field.name) for each in launches) for field in fields(cls)))


def split(run: BoundRun) -> DeviceTimes:
    """Run an engine some times, and measure its parts one by one.

    Raises:
        RunError: a run fails.
    """
    parts = {"compute": run.launch, "upload": run.upload, "download": run.download}
    return DeviceTimes(
        enqueue=median(_enqueue_microseconds(run) for _ in range(_RUNS)),
        **{name: median(run.device.elapsed(part) for _ in range(_RUNS)) for name, part in parts.items()},
    )


def _enqueue_microseconds(run: BoundRun) -> float:
    begin = perf_counter_ns()
    run.launch()
    taken = perf_counter_ns() - begin
    run.device.synchronize()
    return taken / 1000
