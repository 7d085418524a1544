"""Latency of models, side by side: one process each, in turns, so that a slow phase of the machine hits all alike."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from numpy.typing import NDArray

from rms_deploy.benchmark.candidate_inputs import candidate_inputs, write_inputs
from rms_deploy.benchmark.candidate_run import CandidateRun
from rms_deploy.benchmark.candidates import Candidate, candidates
from rms_deploy.benchmark.generation import without_past
from rms_deploy.benchmark.launches import measure_launches
from rms_deploy.benchmark.method import MIN_LAUNCHES, Method
from rms_deploy.benchmark.model_files import ModelFiles, ModelLike
from rms_deploy.benchmark.progress import OnProgress, Progress
from rms_deploy.benchmark.provenance import Provenance
from rms_deploy.benchmark.result import BenchmarkResult, CandidateResult, Point
from rms_deploy.errors import InputError

__all__ = ["bench"]


def bench(
    models: ModelLike | Sequence[ModelLike],
    *,
    method: Method | None = None,
    compare: Sequence[str] = (),
    runtimes: Sequence[str] = (),
    module: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    sweep: Mapping[str, Sequence[int]] | None = None,
    concurrency: Sequence[int] = (),
    inputs: str | os.PathLike[str] | Mapping[str, NDArray[Any]] | None = None,
    library: bool = True,
    also_without_library: bool = False,
    operator_times: bool = False,
    on_progress: OnProgress | None = None,
) -> BenchmarkResult:
    """Measure how long one run of each model takes.

    Each candidate gets a process of its own, all get the same inputs, and only one runs at a time. After a warm-up
    they take turns: every candidate runs once in each round, and another begins each time. Then all are launched anew,
    `launches` times in all. Where several are compared, the first takes part twice: by how much these two differ (A/A),
    others may differ by chance. One that is refused, crashes or hangs is reported with its failure; the others go on.

    Args:
        models: one or several, each a file, a proto or an onnx-ir model; after the first also engines, and endpoints
            of servers as grpc://host:port/model or http://host:port/model, which get its inputs. The first candidate
            is what the others are compared with.
        method: launches, rounds, duration, warm-up, threads and so on; default: those of `Method()`.
        compare: variants of the only model, of `variants.VARIANTS`, to be measured in its place.
        runtimes: of `candidates.CANDIDATE_RUNTIMES`; each runs every file, or, torch, the module.
            Default: ONNX Runtime, and torch if there is a module.
        module: what torch runs: a built-in name or `package.module:factory`.
        shapes: of inputs, by name.
        dims: sizes of named dynamic dimensions.
        sweep: several sizes of named dynamic dimensions; everything is measured for every combination, in new
            processes.
        concurrency: several numbers of clients; everything is measured for each. Default: that of the method.
        inputs: an .npz file or arrays by name; default: random ones.
        library: register our custom-op library.
        also_without_library: measure each model that has our ops once more, without the library: what ONNX Runtime's
            own kernels make of it. That is a candidate of its own, after the model's first.
        operator_times: also measure the time of each operator, in further processes.
        on_progress: is called with the steps done, the steps in all, as far as they are known, and what comes next.

    Raises:
        InputError: an argument is out of range, or shapes do not fit a model.
        ModelFileError: a file cannot be read.
    """
    method = method or Method()
    methods = [replace(method, concurrency=clients) for clients in concurrency or (method.concurrency,)]
    for each in methods:
        each.check()
    provenance = Provenance.now()
    end = None if method.max_time is None else perf_counter() + method.max_time
    with TemporaryDirectory(prefix="rms-deploy-bench-") as name:
        folder = Path(name)
        files = ModelFiles(folder)
        given = files.take(models)
        if not given:
            raise InputError("no model to measure; give at least one ONNX file")
        entries = candidates(
            given,
            files,
            compare=compare,
            runtimes=runtimes,
            module=module,
            library=library,
            also_without_library=also_without_library,
        )
        if method.generate is not None:
            if operator_times:
                raise InputError("`operator_times` are those of one run of the model; leave out `generate`")
            empty = without_past(files[given[0].path], shapes or {})
            dims = dims if inputs is not None else empty | dict(dims or {})
        steps = candidate_inputs(
            given[0].path, entries, files, sweep=sweep, inputs=inputs, shapes=shapes, dims=dims, seed=method.seed
        )
        inspection = files.inspection(given[0].path).to_dict()
        hashes = files.hashes(given)
        del files  # the weights of the models need not stay in memory while others run
        count = len(steps) * len(methods)
        progress = Progress(count, on_progress)
        points: list[Point] = []
        for step, each in product(steps, methods):
            written = write_inputs(step.inputs, folder)
            until = _end_of_point(end, count - len(points))
            results, again = _measure(entries, written, each, progress, end=until, operator_times=operator_times)
            clients = {"concurrency": each.concurrency} if concurrency else {}
            results = step.advised(results)
            shapes_of_step = {name: array.shape for name, array in step.inputs[0].items()}
            points.append(Point(results, shapes_of_step, {**step.dims, **clients}, again=again))
    return BenchmarkResult(tuple(points), method=method, provenance=provenance, inspection=inspection, files=hashes)


def _measure(
    entries: Sequence[Candidate],
    inputs: Sequence[Mapping[str, Any]],
    method: Method,
    progress: Progress,
    *,
    end: float | None,
    operator_times: bool,
) -> tuple[tuple[CandidateResult, ...], CandidateResult | None]:
    """All candidates on the same inputs; and, where there is something to compare, the first of them once more."""
    runs = [CandidateRun(entry, method) for entry in entries]
    again = None
    if len(entries) > 1 and method.launches >= MIN_LAUNCHES:
        again = CandidateRun(replace(entries[0], name=f"{entries[0].name} (A/A)"), method)
    pair = [] if again is None else [again]
    progress.begin()
    measure_launches(
        [*runs, *pair],
        [*inputs, *(inputs[0] for _ in pair)],
        method,
        progress,
        end=end,
        further_steps=len(runs) * operator_times,
    )
    for run, arrays in zip(runs, inputs, strict=True) if operator_times else ():
        progress.next(f"operator times of {run.name}")
        if end is None or perf_counter() < end:
            run.time_operators(arrays)
        else:
            run.note = "no operator times: `max_time` was over"
    first = runs[0]
    second = None if again is None else again.result(first)
    noise = None if second is None or second.speedup is None else second.speedup.spread
    return (first.result(), *(run.result(first, noise=noise) for run in runs[1:])), second


def _end_of_point(end: float | None, points_left: int) -> float | None:
    """When a point has to end, so that those after it get as much time."""
    now = perf_counter()
    return None if end is None else now + (end - now) / points_left
