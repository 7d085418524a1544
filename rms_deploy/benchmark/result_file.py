"""Benchmark results as JSON: written for other tools, read back for a report or a comparison."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rms_deploy.benchmark.device_times import DeviceTimes
from rms_deploy.benchmark.latency import Latency, Speedup
from rms_deploy.benchmark.method import Method
from rms_deploy.benchmark.operator_times import OperatorTimes
from rms_deploy.benchmark.provenance import Provenance
from rms_deploy.benchmark.result import FORMAT, BenchmarkResult, CandidateResult, Point
from rms_deploy.benchmark.server_times import ServerTimes
from rms_deploy.errors import InputError
from rms_deploy.runtime.machine import Machine

__all__ = ["from_dict", "read_benchmark"]


def from_dict(data: dict[str, Any]) -> BenchmarkResult:
    """The result that `BenchmarkResult.to_dict` gave.

    Anything else raises KeyError, TypeError, AttributeError or ValueError.
    """
    points = tuple(
        Point(
            candidates=tuple(map(_candidate, point["candidates"])),
            shapes={name: tuple(shape) for name, shape in point["shapes"].items()},
            dims=point["dims"],
            part=point.get("part", ""),
            again=None if point.get("again") is None else _candidate(point["again"]),
            provenance=None if point.get("provenance") is None else _provenance(point["provenance"]),
        )
        for point in data["points"]
    )
    if not points or not all(point.candidates for point in points):
        raise ValueError("it has no candidates")
    return BenchmarkResult(
        points=points,
        method=Method(**{**data["method"], "percentiles": tuple(data["method"]["percentiles"])}),
        provenance=_provenance(data["provenance"]),
        inspection=data["inspection"],
    )


def read_benchmark(path: str | os.PathLike[str]) -> BenchmarkResult:
    """Read a result of `bench` that was saved as JSON.

    `BenchmarkResult.to_dict` gives it, and `rms-deploy bench --json` prints it.

    Raises:
        InputError: the file cannot be read, is something else, or has the format of another version.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: is not JSON; give a saved result of `rms_deploy.bench`") from error
    written = data.get("format") if isinstance(data, dict) else None
    if written is not None and written != FORMAT:
        raise InputError(f"{path}: has format {written!r}, this version reads {FORMAT}; run the benchmark again")
    if written is None or "points" not in data:
        raise InputError(f"{path}: is not a saved result of `rms_deploy.bench`; give one")
    try:
        return from_dict(data)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: is damaged ({type(error).__name__}: {error}); run the benchmark again") from error


def _provenance(data: dict[str, Any]) -> Provenance:
    machine = data["machine"]
    return Provenance(**{**data, "machine": Machine(**{**machine, "gpus": tuple(machine.get("gpus", ()))})})


def _candidate(data: dict[str, Any]) -> CandidateResult:
    latency, speedup, times = data["latency"], data["speedup"], data["operator_times"]
    if latency is not None:
        rounds = tuple(map(tuple, latency["round_medians"]))
        latency = Latency(**{**latency, "quantiles": tuple(latency["quantiles"]), "round_medians": rounds})
    if speedup is not None:
        speedup = Speedup(speedup["value"], speedup["low"], speedup["high"], speedup["noise"])
    if times is not None:
        times = OperatorTimes.from_dict(times)
    server = data.get("server")
    if server is not None:
        server = ServerTimes(**server)
    device = data.get("device_times")
    if device is not None:
        device = DeviceTimes(**device)
    parts = {"latency": latency, "speedup": speedup, "operator_times": times, "server": server}
    return CandidateResult(**{**data, **parts, "device_times": device})
