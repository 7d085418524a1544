"""Launches: all candidates in new processes, measured in turns, and that several times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from time import perf_counter
from typing import Any

from rms_deploy.benchmark.candidate_run import CandidateRun
from rms_deploy.benchmark.method import Method
from rms_deploy.benchmark.plan import Plan
from rms_deploy.benchmark.progress import Progress
from rms_deploy.benchmark.turns import turns
from rms_deploy.benchmark.worker.process import BenchmarkProcess

__all__ = ["measure_launches"]

Inputs = Sequence[Mapping[str, Any]]


def measure_launches(
    runs: Sequence[CandidateRun],
    inputs: Inputs,
    method: Method,
    progress: Progress,
    *,
    end: float | None = None,
    further_steps: int = 0,
) -> None:
    """Measure all candidates, as the method asks, in fewer and longer rounds if they are slow.

    Two processes of one file differ for as long as they live, for example in where their memory lies. So launches are
    what is repeated, and what the statistics count.

    Args:
        runs: of the candidates.
        inputs: of each, as `write_inputs` gave them.
        method: how.
        progress: is told each step.
        end: by `perf_counter`. A launch that would end later does not begin, but the first.
        further_steps: of the point, after these.
    """
    plan = None
    launch, longest = 0, 0.0
    while launch < (plan.launches if plan else method.launches):
        begin = perf_counter()
        is_late = plan is not None and end is not None and begin + longest > end
        if is_late or all(run.failure is not None for run in runs):
            break
        with ExitStack() as stack:
            order = _rotated(list(zip(runs, inputs, strict=True)), launch)
            if plan is None:
                progress.expect(method.launches * len(runs) * (1 + method.rounds) + further_steps)
            _load(order, method, progress, stack, launch)
            if plan is None:
                plan = _plan(runs, method, load_seconds=perf_counter() - begin, end=end)
                progress.expect(plan.launches * len(runs) * (1 + plan.rounds) + further_steps)
            _measure([run for run, _ in order], plan, method, progress, launch, end)
        longest = max(longest, perf_counter() - begin)
        launch += 1


def _load(
    order: Sequence[tuple[CandidateRun, Mapping[str, Any]]],
    method: Method,
    progress: Progress,
    stack: ExitStack,
    launch: int,
) -> None:
    for run, _ in order:  # all at once; the imports of one must not disturb the loading of another
        if run.failure is None:
            process = BenchmarkProcess(method.timeout)
            stack.callback(process.close)
            run.start(process)
    for run, arrays in order:
        progress.next(f"launch {launch + 1}: loading {run.name}")
        run.load(arrays)


def _plan(runs: Sequence[CandidateRun], method: Method, *, load_seconds: float, end: float | None) -> Plan:
    return Plan.of(
        method,
        run_seconds=max(run.run_seconds for run in runs),
        load_seconds=load_seconds,
        candidates=len(runs),
        seconds_left=None if end is None else end - perf_counter(),
    )


def _measure(
    runs: Sequence[CandidateRun], plan: Plan, method: Method, progress: Progress, launch: int, end: float | None
) -> None:
    """All rounds of a launch; fewer, but whole ones, if the time is over."""
    for number, run in turns(runs, plan.rounds, threads=method.threads * method.concurrency):
        if run is runs[number % len(runs)] and number and end is not None and perf_counter() > end:
            break
        progress.next(f"launch {launch + 1} of {plan.launches}, round {number + 1} of {plan.rounds}")
        run.measure(plan.seconds, plan.runs)
    for run in runs:
        run.finish()


def _rotated(items: list[Any], by: int) -> list[Any]:
    first = by % len(items)
    return items[first:] + items[:first]
