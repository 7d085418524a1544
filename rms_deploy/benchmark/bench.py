"""Latency of models, side by side: one process each, in turns, so that a slow phase of the machine hits all alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from numpy.typing import NDArray

from rms_deploy.benchmark.candidate_inputs import candidate_inputs, write_inputs
from rms_deploy.benchmark.candidate_run import CandidateRun
from rms_deploy.benchmark.candidates import Candidate, candidates
from rms_deploy.benchmark.generation import without_past
from rms_deploy.benchmark.method import Method
from rms_deploy.benchmark.model_files import ModelFiles, ModelLike
from rms_deploy.benchmark.provenance import Provenance
from rms_deploy.benchmark.result import BenchmarkResult, CandidateResult, Point
from rms_deploy.benchmark.turns import turns
from rms_deploy.benchmark.worker.process import BenchmarkProcess
from rms_deploy.errors import InputError

__all__ = ["bench"]

_OnProgress = Callable[[int, int, str], None]


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
    on_progress: _OnProgress | None = None,
) -> BenchmarkResult:
    """Measure how long one run of each model takes.

    Each candidate gets a process of its own, all get the same inputs, and only one runs at a time. After a warm-up
    they take turns: in each round every candidate runs for `duration` / `rounds` of the method, and another begins
    each time. One that is refused, crashes or hangs is reported with its failure; the others go on.

    Args:
        models: one or several, each a file, a proto or an onnx-ir model; after the first also engines, and endpoints
            of servers as grpc://host:port/model or http://host:port/model, which get its inputs. The first candidate
            is what the others are compared with.
        method: rounds, duration, warm-up, threads and so on; default: those of `Method()`.
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
        on_progress: is called with the steps done, the steps in all, and what comes next.

    Raises:
        InputError: an argument is out of range, or shapes do not fit a model.
        ModelFileError: a file cannot be read.
    """
    method = method or Method()
    methods = [replace(method, concurrency=clients) for clients in concurrency or (method.concurrency,)]
    for each in methods:
        each.check()
    provenance = Provenance.now()
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
        del files  # the weights of the models need not stay in memory while others run
        count = len(steps) * len(methods) * len(entries)
        progress = _Progress(count * (method.rounds + 1 + operator_times), on_progress)
        points = []
        for step, each in product(steps, methods):
            written = write_inputs(step.inputs, folder)
            results = _measure(entries, written, each, progress, operator_times=operator_times)
            clients = {"concurrency": each.concurrency} if concurrency else {}
            shapes_of_step = {name: array.shape for name, array in step.inputs[0].items()}
            points.append(Point(results, shapes_of_step, {**step.dims, **clients}))
    return BenchmarkResult(tuple(points), method=method, provenance=provenance, inspection=inspection)


@dataclass
class _Progress:
    total: int
    report: _OnProgress | None
    done: int = 0

    def next(self, what: str) -> None:
        if self.report is not None:
            self.report(self.done, self.total, what)
        self.done += 1


def _measure(
    entries: Sequence[Candidate],
    inputs: Sequence[Mapping[str, Any]],
    method: Method,
    progress: _Progress,
    *,
    operator_times: bool,
) -> tuple[CandidateResult, ...]:
    """All candidates on the same inputs."""
    with ExitStack() as stack:
        runs = [CandidateRun(entry, method, _process(stack, method.timeout)) for entry in entries]
        for run in runs:  # all at once; the imports of one must not disturb the loading of another
            run.start()
        for run, arrays in zip(runs, inputs, strict=True):
            progress.next(f"loading {run.name}")
            run.load(arrays)
        for number, run in turns(runs, method.rounds, threads=method.threads * method.concurrency):
            progress.next(f"round {number + 1} of {method.rounds}")
            run.measure(method.duration / method.rounds)
        for run in runs:
            run.finish()
        if operator_times:
            for run, arrays in zip(runs, inputs, strict=True):
                progress.next(f"operator times of {run.name}")
                run.time_operators(arrays)
        return tuple(run.result(runs[0]) for run in runs)


def _process(stack: ExitStack, timeout: float) -> BenchmarkProcess:
    process = BenchmarkProcess(timeout)
    stack.callback(process.close)
    return process
