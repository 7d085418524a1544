"""The process in which one candidate of a benchmark runs. It is told what to do in JSON lines, and answers in them.

    {"do": "start"}
        -> {}
    {"do": "load", "runtime": name, "model": path, "threads": n, "library": bool, "timeout": s, "cuda_graph": bool,
     "generate": tokens or null, "inputs": {...}}
        -> {"load_seconds": s, "first_run_seconds": s, "memory_before": bytes}
    {"do": "warm_up", "seconds": at most, "clients": n}
        -> {"settled": bool, "run_seconds": s or null}
    {"do": "run", "seconds": s, "runs": at least, "clients": n}
        -> {"microseconds": [of each run], "seconds": s}; both per token where a run generates tokens
    {"do": "memory"}
        -> {"peak_memory": bytes}
    {"do": "device_times"}
        -> {"device_times": fields of DeviceTimes}
    {"do": "server_statistics", "model": URL, "timeout": s}
        -> {"server_statistics": fields of ServerStatistics, or null}
    {"do": "operator_times", "model": path, "threads": n, "library": bool, "inputs": {...}}
        -> {"operator_times": fields of OperatorTimes}

"inputs" is what `write` of inputs.py returned. A refused model or input is answered with {"error": line}, and the
process ends. It also ends with its standard input.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from time import perf_counter
from typing import Any

from rms_deploy.benchmark.timing import measure_clients, warm_up
from rms_deploy.benchmark.worker import inputs as benchmark_inputs
from rms_deploy.errors import RmsDeployError

__all__ = ["main"]


def main() -> None:
    """Serve the process on the other end of the pipes until it closes them."""
    # A runtime may print to stdout, and that must not land between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    run: Callable[[], Any] | None = None
    tokens = 1
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "load":
                run, answer = _load(request)
                tokens = request["generate"] or 1
            else:
                answer = _answer(request, run, tokens)
        except RmsDeployError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)
        if "error" in answer:
            return


def _answer(request: dict[str, Any], run: Callable[[], Any] | None, tokens: int) -> dict[str, Any]:
    do = request["do"]
    if do == "start":
        return {}
    if do == "memory":
        return {"peak_memory": _memory("VmHWM")}
    if do == "server_statistics":
        from rms_deploy.runtime import endpoint_session as endpoint

        counted = endpoint.statistics(endpoint.session(request["model"], timeout=request["timeout"]))
        return {"server_statistics": None if counted is None else asdict(counted)}
    if do == "operator_times":
        from rms_deploy.benchmark.profiler import measure_operator_times

        feeds = benchmark_inputs.read(request["inputs"])
        times = measure_operator_times(request["model"], feeds, threads=request["threads"], library=request["library"])
        return {"operator_times": asdict(times)}
    assert run is not None, f"{do} before load"
    if do == "warm_up":
        settled, run_seconds = warm_up(run, request["seconds"], request["clients"])
        return {"settled": settled, "run_seconds": run_seconds}
    if do == "device_times":
        from rms_deploy.benchmark.worker.runtimes import device_times

        return {"device_times": asdict(device_times(run))}
    microseconds, seconds = measure_clients(run, request["seconds"], request["clients"], request["runs"])
    return {"microseconds": [each / tokens for each in microseconds], "seconds": seconds / tokens}


def _load(request: dict[str, Any]) -> tuple[Callable[[], Any], dict[str, Any]]:
    from rms_deploy.benchmark.worker.runtimes import Load, first_run, loaded

    feeds = benchmark_inputs.read(request["inputs"])
    before = _memory("VmRSS")
    start = perf_counter()
    options = {name: request[name] for name in ("threads", "library", "timeout", "cuda_graph", "generate")}
    load = Load(request["model"], feeds, **options)
    run = loaded(request["runtime"], load)
    ready = perf_counter()
    first_run(run)
    return run, {
        "load_seconds": ready - start,
        "first_run_seconds": perf_counter() - ready,
        "memory_before": before,
    }


def _memory(field: str) -> int | None:
    """Memory of this process in bytes, from the line `field` of /proc/self/status; None where there is no such file."""
    try:
        with open("/proc/self/status", encoding="utf-8") as file:  # noqa: PTH123 - a file of the kernel
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith(f"{field}:")), None)
    except OSError:
        return None
