"""The process in which one candidate of a benchmark runs. It is told what to do in JSON lines, and answers in them.

    {"do": "start"}
        -> {}
    {"do": "load", "model": path, "threads": n, "library": bool, "shapes": {name: [sizes]}, "seed": n}
        -> {"load_seconds": s, "first_run_seconds": s}
    {"do": "run", "seconds": s}
        -> {"microseconds": [of each run]}

A model or input that is refused is answered with {"error": line}; the process then ends. It ends too when its standard
input does.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter, perf_counter_ns
from typing import Any

from numpy.typing import NDArray

from rms_deploy import modelfile
from rms_deploy.errors import RmsDeployError
from rms_deploy.inputs import random_inputs
from rms_deploy.runtime import onnxruntime as runtime

__all__ = ["main", "measure"]


def main() -> None:
    """Serve the process on the other end of the pipes until it closes them."""
    # What a runtime prints on its own must not land between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    run: Callable[[], Any] | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "start":
                answer: dict[str, Any] = {}
            elif request["do"] == "load":
                run, answer = _load(request)
            else:
                assert run is not None, "run before load"
                answer = {"microseconds": measure(run, request["seconds"])}
        except RmsDeployError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)
        if "error" in answer:
            return


def measure(run: Callable[[], Any], seconds: float) -> list[float]:
    """Microseconds of each run for about `seconds`, at least one.

    One run before them is not counted: another process had the caches since the last time.
    """
    run()
    latencies = []
    end = perf_counter() + seconds
    while True:
        start = perf_counter_ns()
        run()
        latencies.append((perf_counter_ns() - start) / 1000)
        if perf_counter() >= end:
            return latencies


def _load(request: dict[str, Any]) -> tuple[Callable[[], Any], dict[str, Any]]:
    feeds = random_inputs(modelfile.load(request["model"]), request["shapes"], seed=request["seed"])
    start = perf_counter()
    session = runtime.session(request["model"], threads=request["threads"], library=request["library"])
    loaded = perf_counter()
    runtime.run(session, feeds)
    seconds = {"load_seconds": loaded - start, "first_run_seconds": perf_counter() - loaded}
    return _prepared(session, feeds), seconds


def _prepared(session: Any, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], Any]:
    """One run with nothing of ours around it; bfloat16 values, which `run` does not take, are bound beforehand."""
    if any(value.type == "tensor(bfloat16)" for value in (*session.get_inputs(), *session.get_outputs())):
        return runtime.bound_run(session, feeds)
    return partial(session.run, [output.name for output in session.get_outputs()], dict(feeds))
