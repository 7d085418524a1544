"""Latency of models, side by side: one process each, in turns, so that a slow phase of the machine hits all alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.benchmark.candidate_run import Running
from rms_deploy.benchmark.candidates import Contestant, contestants
from rms_deploy.benchmark.method import Method
from rms_deploy.benchmark.provenance import Provenance
from rms_deploy.benchmark.result import BenchmarkResult, Candidate, Point
from rms_deploy.benchmark.turns import turns
from rms_deploy.benchmark.worker import inputs as benchmark_inputs
from rms_deploy.benchmark.worker.process import BenchmarkProcess
from rms_deploy.errors import InputError
from rms_deploy.fusion.inspect import inspect
from rms_deploy.onnx_model.file import load_model
from rms_deploy.onnx_model.inputs import check_inputs, random_inputs, resolve_inputs
from rms_deploy.onnx_model.shapes import resolve_shapes
from rms_deploy.onnx_model.signature import input_specs

__all__ = ["bench"]

_Shapes = dict[str, tuple[int, ...]]
_OnProgress = Callable[[int, int, str], None]


def bench(
    models: Sequence[str | os.PathLike[str]],
    *,
    compare: Sequence[str] = (),
    runtimes: Sequence[str] = (),
    module: str | None = None,
    threads: int = Method.threads,
    concurrency: int = Method.concurrency,
    rounds: int = Method.rounds,
    seconds: float = Method.seconds,
    warmup: float = Method.warmup,
    timeout: float = Method.timeout,
    percentiles: Sequence[float] = Method.percentiles,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    sweep: Mapping[str, Sequence[int]] | None = None,
    inputs: str | os.PathLike[str] | None = None,
    seed: int = Method.seed,
    library: bool = True,
    also_without_library: bool = False,
    operator_times: bool = False,
    on_progress: _OnProgress | None = None,
) -> BenchmarkResult:
    """Measure how long one run of each model takes.

    Each candidate gets a process of its own, all get the same inputs, and only one runs at a time. After a warm-up
    they take turns: in each round every candidate runs for `seconds` / `rounds`, and another begins each time. One
    that is refused, crashes or hangs is reported with its failure; the others go on.

    Args:
        models: ONNX files, and after the first, engines, which get its inputs. The first candidate is what the others
            are compared with.
        compare: variants of the only model, of `variants.VARIANTS`, to be measured in its place.
        runtimes: of `benchmark_contestants.RUNTIMES`; each runs every file, or, torch, the module.
            Default: ONNX Runtime, and torch if there is a module.
        module: what torch runs: a built-in name or `package.module:factory`.
        threads: of each session.
        concurrency: clients that call a session at the same time.
        rounds: how often the candidates take turns.
        seconds: measured for each candidate, over all rounds.
        warmup: seconds after which a warm-up ends even if the latency still drifts.
        timeout: seconds without an answer after which a candidate has failed.
        percentiles: to report beside the median.
        shapes: of inputs, by name.
        dims: sizes of named dynamic dimensions.
        sweep: several sizes of named dynamic dimensions; everything is measured for every combination, in new
            processes.
        inputs: an .npz file with one array per input; by default they are random.
        seed: of random inputs.
        library: register our custom-op library.
        also_without_library: measure each model that has our ops once more, without the library: what ONNX Runtime's
            own kernels make of it. That is a candidate of its own, after the model's first.
        operator_times: also measure the time of each operator, in further processes.
        on_progress: is called with the steps done, the steps in all, and what comes next.

    Raises:
        InputError: an option out of range, or shapes that do not fit a model.
        ModelFileError: a file cannot be read.
    """
    method = Method(threads, concurrency, rounds, seconds, warmup, timeout, tuple(percentiles), seed)
    method.check()
    if not models:
        raise InputError("no model to measure; give at least one ONNX file")
    if inputs is not None and (shapes or dims or sweep):
        raise InputError("both inputs and their shapes were given; the arrays have shapes: leave the shapes out")
    provenance = Provenance.now()
    with TemporaryDirectory(prefix="rms-deploy-bench-") as folder:
        entries = contestants(
            models,
            folder=Path(folder),
            compare=compare,
            runtimes=runtimes,
            module=module,
            library=library,
            also_without_library=also_without_library,
        )
        grid = list(_grid(sweep or {}))
        feeds = [_feeds(models[0], entries, inputs, shapes or {}, {**(dims or {}), **step}, seed) for step in grid]
        progress = _Progress(len(grid) * len(entries) * (rounds + 1 + operator_times), on_progress)
        points = []
        for step, arrays in zip(grid, feeds, strict=True):
            written = _written(arrays, Path(folder))
            candidates = _measure(entries, written, method, progress, operator_times=operator_times)
            points.append(Point(candidates, {name: array.shape for name, array in arrays[0].items()}, step))
    return BenchmarkResult(
        points=tuple(points),
        method=method,
        provenance=provenance,
        inspection=inspect(models[0]).to_dict(),
    )


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
    entries: Sequence[Contestant],
    inputs: Sequence[Mapping[str, Any]],
    method: Method,
    progress: _Progress,
    *,
    operator_times: bool,
) -> tuple[Candidate, ...]:
    """All candidates on the same inputs."""
    with ExitStack() as stack:
        running = [Running(entry, method, _process(stack, method.timeout)) for entry in entries]
        for each in running:  # all at once; the imports of one must not disturb the loading of another
            each.start()
        for each, arrays in zip(running, inputs, strict=True):
            progress.next(f"loading {each.name}")
            each.load(arrays)
        for number, each in turns(running, method.rounds, threads=method.threads * method.concurrency):
            progress.next(f"round {number + 1} of {method.rounds}")
            each.measure(method.seconds / method.rounds)
        for each in running:
            each.finish()
        if operator_times:
            for each, arrays in zip(running, inputs, strict=True):
                progress.next(f"operator times of {each.name}")
                each.time_operators(arrays)
        return tuple(each.result(running[0]) for each in running)


def _process(stack: ExitStack, timeout: float) -> BenchmarkProcess:
    process = BenchmarkProcess(timeout)
    stack.callback(process.close)
    return process


def _grid(sweep: Mapping[str, Sequence[int]]) -> Iterator[dict[str, int]]:
    """Every combination; one without any size if there is no sweep."""
    for sizes in product(*sweep.values()):
        yield dict(zip(sweep, sizes, strict=True))


def _feeds(
    first: str | os.PathLike[str],
    entries: Sequence[Contestant],
    inputs: str | os.PathLike[str] | None,
    shapes: Mapping[str, Sequence[int]],
    dims: Mapping[str, int],
    seed: int,
) -> list[dict[str, NDArray[Any]]]:
    """The inputs of each candidate. Those that share name and type with one of the first model are the same arrays."""
    model = load_model(first)
    (given,) = resolve_inputs(model, inputs=inputs, shapes=shapes, dims=dims, seed=seed).values()
    feeds = {os.fspath(first): given}
    for path in dict.fromkeys(entry.signature for entry in entries if entry.signature != os.fspath(first)):
        other = load_model(path)
        own = random_inputs(other, _like(given, other), seed=seed)
        feeds[path] = {n: given[n] if n in given and given[n].dtype == a.dtype else a for n, a in own.items()}
        check_inputs(feeds[path], other)
    return [feeds[entry.signature] for entry in entries]


def _written(feeds: Sequence[dict[str, NDArray[Any]]], folder: Path) -> list[dict[str, Any]]:
    """Where each candidate finds its inputs: in one file, if they are the same."""
    written: dict[tuple[tuple[str, int], ...], dict[str, Any]] = {}
    for arrays in feeds:
        key = tuple((name, id(array)) for name, array in arrays.items())
        if key not in written:
            written[key] = benchmark_inputs.write(arrays, folder / f"inputs{len(written)}.npz")
    return [written[tuple((name, id(array)) for name, array in arrays.items())] for arrays in feeds]


def _like(first: Mapping[str, NDArray[Any]], model: ir.Model) -> _Shapes:
    names = input_specs(model)
    return resolve_shapes(model, shapes={name: array.shape for name, array in first.items() if name in names})
