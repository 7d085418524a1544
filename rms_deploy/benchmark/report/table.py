"""Benchmark results as a table: for the terminal, as Markdown, and as CSV with plain numbers."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from typing import Final

from rms_deploy.benchmark.method import percentile_name
from rms_deploy.benchmark.report.numbers import compared, duration
from rms_deploy.benchmark.report.summary import summary
from rms_deploy.benchmark.result import BenchmarkResult, CandidateResult, Point, point_name
from rms_deploy.display import Table

__all__ = [
    "SHARES_HEADER",
    "as_csv",
    "as_markdown",
    "category_shares",
    "failures",
    "header",
    "memory",
    "provenance",
    "rows",
    "tables",
]

SHARES_HEADER: Final = ("candidate", "at", "norms", "matmul", "rest", "norms, of a copy's speed")
"""The header of `category_shares`."""


def header(result: BenchmarkResult) -> tuple[str, ...]:
    """The names of the columns."""
    percentiles = map(percentile_name, result.method.percentiles)
    speed = "times faster", "95 % interval", "verdict"
    server = "queue", "compute", "batched"
    where = "candidate", "at", "machine"
    rate = "runs/s" if result.method.generate is None else "tokens/s"
    return *where, "median", *percentiles, rate, *server, *speed, "load", "first run", "peak memory"


def tables(result: BenchmarkResult) -> Iterator[Table]:
    """The latencies, and where the time goes if that was measured."""
    percentiles = map(percentile_name, result.method.percentiles)
    gone = (
        "peak memory",
        "first run",
        "load",
        *percentiles,
        "runs/s",
        "tokens/s",
        "batched",
        "queue",
        "compute",
        "machine",
        "95 % interval",
    )
    yield Table(header(result), rows(result), left=3, first_to_go=gone)
    yield Table(SHARES_HEADER, category_shares(result), left=2, first_to_go=SHARES_HEADER[-1:])


def rows(result: BenchmarkResult) -> list[tuple[str, ...]]:
    """One row for each candidate that was measured, at each point. A column may be empty in every row."""
    return [
        _row(point, candidate)
        for point in result.points
        for candidate in point.candidates
        if candidate.latency is not None
    ]


def failures(result: BenchmarkResult) -> Iterator[str]:
    """One line for each candidate that was not measured, and for everything that makes the numbers less certain."""
    noted = set()
    for point in result.points:
        at = f" at {point_name(point)}" if point_name(point) else ""
        for candidate in point.candidates:
            if candidate.failure is not None:
                yield f"{candidate.name}{at} FAILED: {candidate.failure}"
            elif candidate.note and (candidate.name, candidate.note) not in noted:
                noted.add((candidate.name, candidate.note))
                yield f"{candidate.name}: {candidate.note}"
            if candidate.settled is False and result.method.warmup:
                yield f"{candidate.name}{at}: still drifted after {result.method.warmup:g} s of warm-up"
    yield from _shortened(result)


def _shortened(result: BenchmarkResult) -> Iterator[str]:
    """The points that had fewer launches or rounds than the method asks for, and an A/A pair that failed."""
    method = result.method
    for point in result.points:
        at = f" at {point_name(point)}" if point_name(point) else ""
        wanted = method.launches, method.rounds
        found = next(((len(m), max(map(len, m))) for m in _round_medians(point)), wanted)
        if found != wanted:
            why = "a run takes long" if method.max_time is None else "a run takes long, or `max_time` was over"
            yield f"measured{at} in {found[0]} of {wanted[0]} launches of {found[1]} of {wanted[1]} rounds: {why}"
        if point.again is not None and point.again.failure is not None and point.candidates[0].failure is None:
            yield f"{point.again.name}{at} failed, so the noise is not known: {point.again.failure}"


def _round_medians(point: Point) -> Iterator[tuple[tuple[float, ...], ...]]:
    return (c.latency.round_medians for c in point.candidates if c.latency is not None)


def category_shares(result: BenchmarkResult) -> list[tuple[str, ...]]:
    """Shares of norms, matrix products and the rest, and bandwidth of the norms, of candidates with operator times."""
    return [
        (
            candidate.name,
            point_name(point),
            *(f"{100 * times.share(name):.0f} %" for name in ("norms", "matmul", "rest")),
            "" if times.bandwidth is None else f"{100 * times.bandwidth:.0f} %",
        )
        for point in result.points
        for candidate in point.candidates
        for times in [candidate.operator_times]
        if times is not None
    ]


def provenance(result: BenchmarkResult) -> Iterator[str]:
    """How, where and when it was measured."""
    shapes = ", ".join(f"{name}={'x'.join(map(str, shape))}" for name, shape in result.shapes.items())
    yield f"inputs {shapes or 'none'}; " + "; ".join(result.method.sentences())
    places = Counter((p.machine.hardware, p.packages) for p in (point.provenance for point in result.points) if p)
    for (hardware, packages), count in places.items():
        yield f"{count} of {len(result.points)} points on {hardware}; {packages}"
    if not places:
        yield result.provenance.sentence()


def as_markdown(result: BenchmarkResult) -> str:
    """The summary, the table and how it was measured."""
    lines = [*(f"- {sentence}" for sentence in summary(result)), ""]
    lines += _markdown(header(result), rows(result))
    shares = category_shares(result)
    if shares:
        lines += ["", *_markdown(SHARES_HEADER, shares)]
    lines += ["", *(f"- {line}" for line in failures(result)), *(f"- {line}" for line in provenance(result))]
    return "\n".join([*lines, f"- `{result.provenance.command}`, {result.provenance.date}", ""])


def as_csv(result: BenchmarkResult) -> str:
    """One line for each candidate at each point: microseconds, seconds and bytes; what is not known is empty."""
    file = io.StringIO()
    percentiles = [percentile_name(p) for p in result.method.percentiles]
    names = [
        *(
            "candidate",
            "model",
            "runtime",
            "library",
            "at",
            "machine",
            "runs",
            "median_us",
            "median_low_us",
            "median_high_us",
        ),
        *(f"{name}_us" for name in percentiles),
        *(
            "runs_per_second",
            "speedup",
            "speedup_low",
            "speedup_high",
            "noise",
            "verdict",
            "load_seconds",
            "first_run_seconds",
        ),
        *("memory_before_bytes", "peak_memory_bytes", "norms_share", "matmul_share", "rest_share"),
        *("server_queue_us", "server_compute_us", "server_batched", "failure"),
    ]
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    for point in result.points:
        for candidate in point.candidates:
            machine = (point.provenance or result.provenance).machine.hardware
            writer.writerow({"at": point_name(point), "machine": machine, **_numbers(candidate)})
    return file.getvalue()


def memory(size: int | None) -> str:
    """Bytes in MiB; empty if they are not known."""
    return "" if size is None else f"{size / 2**20:.0f} MiB"


def _row(point: Point, candidate: CandidateResult) -> tuple[str, ...]:
    latency = candidate.latency
    assert latency is not None, candidate.name
    return (
        candidate.name,
        point_name(point),
        "" if point.provenance is None else point.provenance.machine.hardware,
        *map(duration, (latency.median, *latency.percentiles.values())),
        "" if latency.throughput is None else f"{latency.throughput:.4g}",
        *_served(candidate),
        *compared(candidate.speedup),
        *("" if s is None else duration(s * 1e6) for s in (candidate.load_seconds, candidate.first_run_seconds)),
        memory(candidate.peak_memory),
    )


def _served(candidate: CandidateResult) -> tuple[str, str, str]:
    """What the server tells of a request: how long it waited and ran, and how many ran together, if any did."""
    server = candidate.server
    if server is None:
        return "", "", ""
    return duration(server.queue), duration(server.compute), f"{server.batched:.1f}" if server.batched > 1.05 else ""


def _numbers(candidate: CandidateResult) -> dict[str, object]:
    fields = ("model", "runtime", "library", "load_seconds", "first_run_seconds", "failure")
    values: dict[str, object] = {"candidate": candidate.name, **{name: getattr(candidate, name) for name in fields}}
    values |= {"memory_before_bytes": candidate.memory_before, "peak_memory_bytes": candidate.peak_memory}
    latency, speedup, times = candidate.latency, candidate.speedup, candidate.operator_times
    if latency is not None:
        values |= {"runs": latency.runs, "median_us": latency.median, "runs_per_second": latency.throughput}
        values |= {"median_low_us": latency.low, "median_high_us": latency.high}
        values |= {f"{name}_us": value for name, value in latency.percentiles.items()}
    if speedup is not None:
        values |= {"speedup": speedup.value, "speedup_low": speedup.low, "speedup_high": speedup.high}
        values |= {"noise": speedup.noise, "verdict": speedup.verdict}
    if candidate.server is not None:
        values |= {f"server_{name}_us": getattr(candidate.server, name) for name in ("queue", "compute")}
        values["server_batched"] = candidate.server.batched
    if times is not None:
        values |= {f"{name}_share": times.share(name) for name in ("norms", "matmul", "rest")}
    return values


def _markdown(names: tuple[str, ...], lines: list[tuple[str, ...]]) -> Iterator[str]:
    kept = [i for i in range(len(names)) if any(line[i] for line in lines)]
    if not kept:
        return
    yield "| " + " | ".join(names[i] for i in kept) + " |"
    yield "|" + "|".join("---" if i < 1 else "---:" for i in kept) + "|"
    for line in lines:
        yield "| " + " | ".join(line[i].replace("|", r"\|") for i in kept) + " |"
