"""How often `bench` names a winner where there is none, and whether it finds a candidate that is 3 % slower.

    python benchmarks/noise/measure.py --runs 40 -o benchmarks/noise/aa.json
    python benchmarks/noise/measure.py --runs 10 --slower 3 -o benchmarks/noise/slower.json

Each run is one call of `rms_deploy.bench` with its default launches and rounds on llama-tiny and a copy of the same
bytes (A/A), or with --slower a copy with nodes added until it takes so many percent longer. The nodes are a chain of
Sin on a tensor of its own, of which each costs the same few microseconds; their number follows from timing both graphs
in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections import Counter
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import onnx

import rms_deploy
from rms_deploy.benchmark.timing import measure

SHAPE = {"input_ids": (1, 16)}
TRIAL_NODES = 60


def with_nodes(source: Path, target: Path, count: int) -> None:
    """Write the model with a further output, at the end of a chain of `count` nodes."""
    model = onnx.load(source)
    (first,) = model.graph.input
    names = ["chain_0", *(f"chain_{i + 1}" for i in range(count))]
    model.graph.node.append(onnx.helper.make_node("Cast", [first.name], names[:1], to=onnx.TensorProto.FLOAT))
    model.graph.node.extend(onnx.helper.make_node("Sin", [a], [b]) for a, b in pairwise(names))
    model.graph.output.append(onnx.helper.make_tensor_value_info(names[-1], onnx.TensorProto.FLOAT, [None, None]))
    onnx.save(model, target)


def microseconds(*paths: Path) -> list[float]:
    """Of one run of each, from short rounds in turns in this process: the least of the rounds' medians."""
    feeds = {name: np.ones(shape, np.int64) for name, shape in SHAPE.items()}
    sessions = [rms_deploy.session(path, threads=1, library=False) for path in paths]
    rounds = [[median(measure(lambda s=s: s.run(None, feeds), 0.05)) for s in sessions] for _ in range(100)]
    return [min(each) for each in zip(*rounds, strict=True)]


def slower_copy(source: Path, target: Path, percent: float) -> dict[str, float]:
    """Write a copy that takes about `percent` longer, and say how many nodes that took and how much longer it takes."""
    trial = target.with_name("trial.onnx")
    with_nodes(source, trial, TRIAL_NODES)
    plain, long = microseconds(source, trial)
    count = max(1, round(percent / 100 * plain / ((long - plain) / TRIAL_NODES)))
    with_nodes(source, target, count)
    plain, slower = microseconds(source, target)
    return {"nodes": count, "plain_us": plain, "slower_us": slower, "percent": 100 * (slower / plain - 1)}


def one_run(models: list[Path], method: rms_deploy.Method) -> dict[str, Any]:
    """What one benchmark said of the second model."""
    load, begin = os.getloadavg()[0], perf_counter()
    result = rms_deploy.bench(models, shapes=SHAPE, method=method)
    point, speedup = result.points[0], result.candidates[1].speedup
    candidates = (*point.candidates, point.again)
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "load": load,
        "seconds": round(perf_counter() - begin, 1),
        "duration": method.duration,
        "verdict": speedup.verdict,
        "value": speedup.value,
        "interval": [speedup.low, speedup.high],
        "noise": speedup.noise,
        "round_medians": [candidate.latency.round_medians for candidate in candidates],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--slower", type=float, default=0.0, metavar="PERCENT")
    parser.add_argument("--duration", type=float, default=rms_deploy.Method.duration)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        model, other = Path(folder, "llama-tiny.onnx"), Path(folder, "other.onnx")
        rms_deploy.export("llama-tiny", model, norm="decomposed")
        made = slower_copy(model, other, options.slower) if options.slower else shutil.copy(model, other) and {}
        print(made or "a copy of the same bytes", flush=True)
        runs: list[dict[str, Any]] = []
        for _ in range(options.runs):
            runs.append(one_run([model, other], rms_deploy.Method(duration=options.duration)))
            print({name: value for name, value in runs[-1].items() if name != "round_medians"}, flush=True)
            verdicts = dict(Counter(run["verdict"] for run in runs))
            options.output.write_text(json.dumps({"made": made, "verdicts": verdicts, "runs": runs}) + "\n")
    print(verdicts)


if __name__ == "__main__":
    main()
