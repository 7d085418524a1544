"""What one point, one call and one byte of a sweep cost, for the sums of docs/scale.md.

    python benchmarks/cluster/measure.py --output benchmarks/cluster/result.json

On a Ray of this machine alone, or of `--ray ADDRESS`. Needs the extras `cpu`, `export`, `ray` and `rtx`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnx
import onnx.helper
import ray

import rms_deploy
from rms_deploy.deployment.cluster import Cluster, cluster
from rms_deploy.deployment.cluster_calls import Call
from rms_deploy.deployment.files import Contents, files_of, write_files
from rms_deploy.deployment.fuse_one import fuse_one
from rms_deploy.onnx_model.file_hashes import file_hash
from rms_deploy.runtime.machine import machine

MODEL = "llama-small"
CALLS = 500
MIB = 256


def nothing(files: Contents) -> dict[str, Any]:  # noqa: ARG001 - what a call is given
    """A call that does nothing."""
    return {}


def written(files: Contents) -> dict[str, Any]:
    """A call that writes its files, as each point does."""
    with tempfile.TemporaryDirectory() as folder:
        start = perf_counter()
        write_files(files, folder)
        return {"seconds": perf_counter() - start}


def timed(connected: Cluster, calls: list[Call]) -> tuple[float, list[Any]]:
    """The seconds that calls take on all nodes, and their results."""
    start = perf_counter()
    results = [result for _, result in connected.run({connected.nodes(): iter(enumerate(calls))})]
    return perf_counter() - start, results


def call_costs(address: str, folder: Path) -> Iterator[tuple[str, float]]:
    """Of connecting, of a call, and of sending a model."""
    start = perf_counter()
    with cluster(address) as connected:
        yield "connect_seconds", perf_counter() - start
        start = perf_counter()
        connected.nodes()
        yield "ask_nodes_seconds", perf_counter() - start
        first, _ = timed(connected, [Call(nothing, {}, {})])
        many, _ = timed(connected, [Call(nothing, {}, {})] * (CALLS + 1))
        yield "first_call_seconds", first
        yield "call_seconds", (many - first) / CALLS
        model = large_model(folder)
        start = perf_counter()
        files = files_of(model)
        yield "open_seconds", perf_counter() - start
        start = perf_counter()
        for path in files.values():
            file_hash(path)
        yield "hash_mib_per_second", MIB / (perf_counter() - start)
        start = perf_counter()
        sent = connected.send(files)
        yield "send_mib_per_second", MIB / (perf_counter() - start)
        _, (result,) = timed(connected, [Call(written, {}, sent)])
        yield "write_mib_per_second", MIB / result["seconds"]


def large_model(folder: Path) -> Path:
    """A product with a matrix of 256 MiB, which lies in a file of its own."""
    rows = MIB * 2**20 // 4 // 4096
    weights = onnx.numpy_helper.from_array(np.ones((rows, 4096), np.float32), "w")
    value = onnx.helper.make_tensor_value_info
    inputs, outputs = [value("x", 1, ["batch", rows])], [value("y", 1, ["batch", 4096])]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "g", inputs, outputs, [weights]
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.save(model, folder / "large.onnx", save_as_external_data=True, location="large.data")
    return folder / "large.onnx"


def point_costs(address: str, folder: Path) -> Iterator[tuple[str, float]]:
    """Of a point of two candidates by the default method, beside `bench` without Ray, and of its result."""
    model = folder / f"{MODEL}.onnx"
    rms_deploy.export(MODEL, model, norm="decomposed")
    compare: Mapping[str, Any] = {"compare": ("decomposed", "fused")}
    start = perf_counter()
    rms_deploy.bench(model, **compare, sweep={"batch": (1, 2)})
    yield "bench_point_seconds", (perf_counter() - start) / 2
    points = folder / "points"
    ends = []
    rms_deploy.sweep(
        model,
        **compare,
        sweep={"batch": (1, 2, 3)},
        ray=address,
        resume=points,
        on_progress=lambda *_: ends.append(perf_counter()),
    )
    yield "sweep_point_seconds", (ends[-1] - ends[0]) / (len(ends) - 1)
    lines = points.read_bytes().splitlines()[1:]
    yield "point_bytes", sum(map(len, lines)) / len(lines)
    yield "model_bytes", float(model.stat().st_size)
    yield "fuse_seconds", fuse_one("m", model, folder / "fused.onnx", {}).seconds
    profile = [{"input_ids": ((1, 128),) * 3}]
    options: Mapping[str, Any] = {"runtime": "tensorrt-rtx", "devices": ("sm89",), "optimization_profiles": profile}
    record = rms_deploy.build(folder / "fused.onnx", folder / "m.engine", norm="plugin", **options)
    yield "build_seconds", record.seconds
    yield "engine_bytes", float(record.bytes)


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ray", default="local")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    here = machine()
    with tempfile.TemporaryDirectory() as name:
        costs = {**dict(call_costs(arguments.ray, Path(name))), **dict(point_costs(arguments.ray, Path(name)))}
    versions = {"python": platform.python_version(), "ray": ray.__version__, "rms-deploy": rms_deploy.__version__}
    where = {"hardware": here.hardware, "load_before": here.load, "load_after": os.getloadavg()[0]}
    date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    result = {
        "date": date,
        **where,
        "versions": versions,
        "model": MODEL,
        **{k: float(f"{v:.4g}") for k, v in costs.items()},
    }
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
