"""Latency of models, side by side: one process each, in turns, so that a slow phase of the machine hits all alike."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from time import sleep
from typing import Any, Final

import onnx_ir as ir

from rms_deploy import modelfile
from rms_deploy.benchmark_process import BenchmarkProcess
from rms_deploy.benchmark_result import BenchmarkResult, Candidate, Latency, Speedup
from rms_deploy.errors import InputError, RunError
from rms_deploy.functions import norm_nodes
from rms_deploy.machine import machine, versions
from rms_deploy.shapes import resolve_shapes
from rms_deploy.signature import input_specs

__all__ = ["bench"]

_Shapes = dict[str, tuple[int, ...]]

_SETTLE_SECONDS: Final = 0.1
"""Pause before another process runs: ONNX Runtime's threads look for work that long before they sleep."""


def bench(
    models: Sequence[str | os.PathLike[str]],
    *,
    threads: int = 1,
    rounds: int = 10,
    seconds: float = 2.0,
    warmup: float = 0.5,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    library: bool = True,
    also_without_library: bool = False,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> BenchmarkResult:
    """Measure how long one run of each model takes on ONNX Runtime's CPU provider.

    Each model gets a process of its own, all get the same inputs, and only one runs at a time. After a warm-up they
    take turns: in each round every model runs for `seconds` / `rounds`, and another begins each time. A model that
    is refused, or whose process crashes, is reported with its failure; the others go on.

    Args:
        models: files; the first is what the others are compared with.
        threads: of each session.
        rounds: how often the models take turns.
        seconds: measured for each model, over all rounds.
        warmup: seconds before that, not measured.
        shapes: of inputs, by name.
        dims: sizes of named dynamic dimensions.
        seed: of the inputs.
        library: register our custom-op library.
        also_without_library: measure each model that has our ops once more, without the library: what ONNX Runtime's
            own kernels make of it. That is a candidate of its own, after the model's first.
        on_progress: is called with the steps done, the steps in all, and what comes next.

    Raises:
        InputError: an option out of range, or shapes that do not fit a model.
        ModelFileError: a file cannot be read.
    """
    _require(models, threads=threads, rounds=rounds, seconds=seconds, warmup=warmup)
    here = machine()
    shapes_of = _shapes(models, shapes or {}, dims or {})
    entries = [
        (os.fspath(model), sizes, with_library)
        for model, sizes in zip(models, shapes_of, strict=True)
        for with_library in _libraries(model, library=library, also_without=also_without_library)
    ]
    with ExitStack() as stack:
        running = [_Running(model, with_library, _process(stack)) for model, _, with_library in entries]
        progress = _Progress(len(running) * (rounds + 1), on_progress)
        for each in running:  # all at once; the imports of one must not disturb the loading of another
            each.start()
        for each, (_, sizes, _) in zip(running, entries, strict=True):
            progress.next(f"loading {each.model}")
            each.load(threads=threads, shapes=sizes, seed=seed, warmup=warmup)
        for turn in range(rounds):
            first = turn % len(running)
            for each in running[first:] + running[:first]:
                progress.next(f"round {turn + 1} of {rounds}")
                if threads > 1:
                    sleep(_SETTLE_SECONDS)
                each.measure(seconds / rounds)
        return BenchmarkResult(
            candidates=tuple(each.result(running[0]) for each in running),
            shapes=shapes_of[0],
            threads=threads,
            rounds=rounds,
            seconds=seconds,
            warmup=warmup,
            seed=seed,
            library=library,
            machine=here,
            versions=versions(),
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        )


@dataclass
class _Progress:
    total: int
    report: Callable[[int, int, str], None] | None
    done: int = 0

    def next(self, what: str) -> None:
        if self.report is not None:
            self.report(self.done, self.total, what)
        self.done += 1


@dataclass
class _Running:
    """A candidate while it is measured."""

    model: str
    library: bool
    process: BenchmarkProcess
    loaded: dict[str, float] = field(default_factory=dict)
    rounds: list[list[float]] = field(default_factory=list)
    failure: str | None = None

    def start(self) -> None:
        self._ask("start")

    def load(self, *, warmup: float, **options: Any) -> None:
        path = os.path.abspath(self.model)  # noqa: PTH100 - keeps links
        self.loaded = self._ask("load", model=path, library=self.library, **options)
        self._ask("run", seconds=warmup)

    def measure(self, seconds: float) -> None:
        self.rounds.append(self._ask("run", seconds=seconds).get("microseconds", []))

    def result(self, first: _Running) -> Candidate:
        if self.failure is not None:
            return Candidate(self.model, self.library, failure=self.failure)
        latency = Latency.of(self.rounds)
        compared = self is not first and first.failure is None
        return Candidate(
            self.model,
            self.library,
            latency=latency,
            speedup=Speedup.of(Latency.of(first.rounds), latency) if compared else None,
            load_seconds=self.loaded["load_seconds"],
            first_run_seconds=self.loaded["first_run_seconds"],
        )

    def _ask(self, do: str, **request: Any) -> dict[str, Any]:
        if self.failure is not None:
            return {}
        try:
            return self.process.ask(do, **request)
        except RunError as error:
            self.failure = str(error)
            return {}


def _libraries(model: str | os.PathLike[str], *, library: bool, also_without: bool) -> tuple[bool, ...]:
    if library and also_without and any(True for _ in norm_nodes(modelfile.load(model))):
        return True, False
    return (library,)


def _process(stack: ExitStack) -> BenchmarkProcess:
    process = BenchmarkProcess()
    stack.callback(process.close)
    return process


def _require(
    models: Sequence[str | os.PathLike[str]], *, threads: int, rounds: int, seconds: float, warmup: float
) -> None:
    if not models:
        raise InputError("no model to measure; give at least one ONNX file")
    for name, value in (("threads", threads), ("rounds", rounds)):
        if value < 1:
            raise InputError(f"{name} is {value}; use at least 1")
    for name, duration in (("seconds", seconds), ("warmup", warmup)):
        if not 0 <= duration < float("inf"):
            raise InputError(f"{name} is {duration}; use 0 or more")


def _shapes(
    models: Sequence[str | os.PathLike[str]], shapes: Mapping[str, Sequence[int]], dims: Mapping[str, int]
) -> list[_Shapes]:
    """The shapes for each model. Inputs that share a name with one of the first model have its shape."""
    loaded = [modelfile.load(model) for model in models]
    first = resolve_shapes(loaded[0], shapes=shapes, dims=dims)
    return [first, *(_like(first, model) for model in loaded[1:])]


def _like(first: _Shapes, model: ir.Model) -> _Shapes:
    names = input_specs(model)
    return resolve_shapes(model, shapes={name: shape for name, shape in first.items() if name in names})
