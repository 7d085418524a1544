"""Measures operator times with ONNX Runtime's profiler, and tells which nodes of the graph that it runs are norms."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.benchmark.operator_times import OperatorTimes, fold, norm_sizes
from rms_deploy.benchmark.timing import measure
from rms_deploy.fusion.fuse import fuse
from rms_deploy.onnx_model.file import load_model, save_model
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.foreign_ops import FOREIGN_NORMS
from rms_deploy.runtime import onnxruntime_session as runtime

__all__ = ["measure_operator_times", "norm_node_names"]

_SKIP: Final = 3
"""The first runs are not counted, because they allocate memory."""
_MAX_EVENTS: Final = 500_000
"""The profiler runs for fewer events than this; ONNX Runtime drops those above a million."""
_COPIES: Final = 21


def measure_operator_times(
    path: str | os.PathLike[str],
    feeds: Mapping[str, NDArray[Any]],
    *,
    threads: int,
    library: bool,
    seconds: float = 1.0,
) -> OperatorTimes:
    """Operator times of a model on ONNX Runtime's CPU provider.

    1. ONNX Runtime optimises the model, writes the optimised graph with its weights to a temporary folder, and is timed
       without its profiler.
    2. Every node of that graph gets a name of its own, because the profiler knows nodes by their names only.
    3. Our grammar tells which nodes are norms, fused or not, whoever fused them.
    4. The graph runs again as it stands, with the profiler.

    Args:
        path: an ONNX file.
        feeds: its inputs.
        threads: of the session.
        library: register our custom-op library.
        seconds: about how long the profiler runs.

    Raises:
        RunError: ONNX Runtime refuses the model, or cannot write its graph, as where the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="rms-deploy-profile-") as folder:
        optimized = Path(folder, "optimized.onnx")
        plain = runtime.session(path, threads=threads, library=library, optimized_path=optimized)
        latency = median(measure(partial(runtime.run, plain, feeds), seconds / 4))
        del plain
        graph = load_model(optimized)
        _name_nodes(graph)
        is_whole_norm = norm_node_names(graph)
        most = _MAX_EVENTS // max(1, sum(1 for _ in graph.graph.all_nodes()))
        runs = _SKIP + min(max(5, round(seconds * 1e6 / latency)), 200, max(5, most))
        save_model(graph, optimized)
        profiled = runtime.session(
            optimized, threads=threads, library=library, optimize=False, profile_prefix=Path(folder, "profile")
        )
        for _ in range(runs):
            runtime.run(profiled, feeds)
        events = json.loads(Path(profiled.end_profiling()).read_text(encoding="utf-8"))
    result = fold(events, is_whole_norm, latency=latency, skip=_SKIP)
    sizes = norm_sizes(events, is_whole_norm)
    return replace(result, copy_microseconds=_copy_microseconds(sizes) if sizes else None)


def norm_node_names(model: ir.Model) -> dict[str, bool]:
    """The names of the nodes that `fuse` would replace: True for a node that is a whole norm, False for a part of one.

    A norm that `fuse` leaves counts only if it is a single node of a known op.
    """
    before = {node.name: node.op_type for graph in model.graphs() for node in graph if node.name}
    fused = fuse(model, verify=False, functions=False).model
    after = {node.name: node for graph in fused.graphs() for node in graph if node.name}
    is_whole_norm = {}
    for name, op_type in before.items():
        now = after.get(name)
        if now is None or now.domain == DOMAIN or op_type in FOREIGN_NORMS:
            is_whole_norm[name] = op_type in FOREIGN_NORMS or (now is not None and now.op_type == op_type)
    return is_whole_norm


def _name_nodes(model: ir.Model) -> None:
    """Give every node a name of its own. A node keeps a name that no other node has."""
    nodes = [node for graph in model.graphs() for node in graph]
    counts = Counter(node.name for node in nodes)
    for index, node in enumerate(nodes):
        if not node.name or counts[node.name] > 1:
            node.name = f"{node.name or node.op_type}#{index}"


def _copy_microseconds(sizes: Sequence[int]) -> float:
    """Time of one copy for each of `sizes`, which reads half the bytes and writes half; one thread, warm caches."""
    medians = {}
    for size in dict.fromkeys(sizes):
        source = np.ones(max(1, size // 2), np.uint8)
        target = np.zeros_like(source)
        times = []
        for _ in range(_COPIES):
            start = perf_counter_ns()
            np.copyto(target, source)
            times.append((perf_counter_ns() - start) / 1e3)
        medians[size] = median(times)
    return sum(medians[size] for size in sizes)
