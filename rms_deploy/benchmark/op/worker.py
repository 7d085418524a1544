"""The process of one kernel of the op benchmark. It is told what to do in JSON lines, and answers in them.

    {"do": "start"}
        -> {}
    {"do": "load", "kernel": name, "case": {op, dtype, shape, axis, threads}}
        -> {}
    {"do": "run", "seconds": s}
        -> {"copy": [microseconds of each copy], "microseconds": [of each run]}

A kernel that is missing, or does not take the case, is answered with {"error": line}; the process goes on. It ends
when its standard input does.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from rms_deploy.benchmark.op.cases import OpCase
from rms_deploy.benchmark.op.other_kernels import KERNELS, copy
from rms_deploy.benchmark.timing import measure
from rms_deploy.errors import RmsDeployError

__all__ = ["main"]


def main() -> None:
    """Serve the process on the other end of the pipes until it closes them."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    runs: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            if request["do"] == "load":
                runs.clear()  # frees the tensors of the last case
                runs.update(_load(request))
            elif request["do"] == "run":
                # In turns within one process, so that both meet the same machine, and the same caches.
                answer = {name: measure(run, request["seconds"] / 2) for name, run in runs.items()}
        except RmsDeployError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


def _load(request: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    case = OpCase(**{**request["case"], "shape": tuple(request["case"]["shape"])})
    run = KERNELS[request["kernel"]](case)
    run()
    return {"copy": copy(case), "microseconds": run}
