"""What a benchmark found, in sentences: no winner where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rms_deploy.benchmark.device_times import DeviceTimes
from rms_deploy.benchmark.report.numbers import duration, ratio
from rms_deploy.benchmark.result import BenchmarkResult, CandidateResult, parts, point_name

__all__ = ["summary"]

_BUSY: Final = 0.5
"""Load above which the machine counts as busy."""


def summary(result: BenchmarkResult) -> Iterator[str]:
    """One sentence for each candidate but the first, for each verification, and for a busy machine.

    Only the first and the last step of a sweep are told, of each of its parts.
    """
    for point in (point for part in parts(result) for point in part[:: max(1, len(part) - 1)]):
        place = f"At {point_name(point)}, " if point_name(point) else ""
        first = point.candidates[0]
        if len(point.candidates) == 1 and first.latency is not None:
            unit = "" if result.method.generate is None else " per token"
            yield f"{place}{first.name} takes {duration(first.latency.median)}{unit}."
        for candidate in point.candidates[1:]:
            yield _sentence(place, _compared(candidate, first))
        for candidate in point.candidates:
            if candidate.device_times is not None:
                yield f"{place}{_device(candidate.name, candidate.device_times)}."
        timed = [(c.name, c.operator_times) for c in point.candidates if c.operator_times is not None]
        if timed:
            shares = ", ".join(f"{100 * times.share('norms'):.0f} % of {name}" for name, times in timed)
            yield _sentence(place, f"norms take this part of the time of a run: {shares}")
    for found in result.verifications:
        yield f"{found['candidate']['model']} was verified against {found['reference']['model']}: {found['verdict']}."
    yield from _busy(result)


def _busy(result: BenchmarkResult) -> Iterator[str]:
    """The points, or the result, at whose begin others ran on the machine."""
    elsewhere = [point for point in result.points if point.provenance is not None]
    if not elsewhere and result.provenance.machine.load > _BUSY:
        load = f"load {result.provenance.machine.load} before the benchmark"
        yield f"The machine was busy ({load}), so the noise is larger than it need be."
    # A node of a sweep comes from the point before, which was as much load as its method has threads.
    limit = _BUSY + result.method.threads * result.method.concurrency
    loads = [point.provenance.machine.load for point in elsewhere if point.provenance is not None]
    busy = [load for load in loads if load > limit]
    if busy:
        points = f"of {len(busy)} of {len(loads)} points"
        yield f"The machines {points} were busy (load up to {max(busy)}), so the noise is larger than it need be."


def _compared(candidate: CandidateResult, first: CandidateResult) -> str:
    speedup = candidate.speedup
    if candidate.failure is not None:
        return f"{candidate.name} could not be measured: {candidate.failure}"
    if speedup is None:
        return f"{candidate.name} has nothing to be compared with, as {first.name} failed"
    times = f"{ratio(speedup.value)} times as fast as {first.name}"
    if speedup.verdict == "too few launches":
        return f"{candidate.name} ran {times}, in too few launches to tell that from noise"
    assert speedup.low is not None, candidate.name
    assert speedup.high is not None, candidate.name
    interval = f"95 % interval {ratio(speedup.low)} ... {ratio(speedup.high)}"
    if speedup.noise is not None:
        interval += f"; A/A: up to {ratio(speedup.noise)}"
    if speedup.verdict == "within noise":
        return f"the difference between {candidate.name} and {first.name} is within the noise ({interval})"
    return f"{candidate.name} is {times} ({interval})"


def _device(name: str, times: DeviceTimes) -> str:
    gpu, host = duration(times.compute), duration(times.enqueue)
    copies = f"copies of inputs {duration(times.upload)}, of outputs {duration(times.download)}"
    return f"{name}: the GPU computes for {gpu}, the host enqueues for {host}; {copies}"


def _sentence(place: str, text: str) -> str:
    """A sentence: it begins with a capital, unless it begins with the name of a candidate."""
    is_name = not text.startswith(("the ", "norms "))
    return f"{place}{text}." if place or is_name else f"{text[0].upper()}{text[1:]}."
