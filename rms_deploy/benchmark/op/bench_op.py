"""One norm at a time: our kernels beside those of other runtimes, as multiples of a plain copy of the same tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from statistics import median
from typing import Any, Final

from rms_deploy.benchmark.op.cases import OP_KINDS, USUAL_OPS, OpCase, parse_shape, tensor_bytes
from rms_deploy.benchmark.op.other_kernels import KERNELS
from rms_deploy.benchmark.op.result import OpBenchmarkResult, OpTiming
from rms_deploy.benchmark.provenance import Provenance
from rms_deploy.benchmark.turns import turns
from rms_deploy.benchmark.worker.process import BenchmarkProcess
from rms_deploy.errors import InputError, RunError
from rms_deploy.ops.element_types import element_dtype

__all__ = ["DEFAULT_KERNELS", "SHAPES", "bench_op"]

SHAPES: Final = (
    "1x4096",
    "16x4096",
    "128x4096",
    "2048x4096",
    "512x1024",
    "8192x128",
    "64x896",
    "32x8192",
    "4x65536",
    "1x256x56x56@1",
)
"""Decode steps and prompts of language models, norms of heads, long rows, and a norm over channels (`@axis`)."""

DEFAULT_KERNELS: Final = tuple(name for name in KERNELS if name != "torch compiled")
"""All but the one that compiles for seconds before each case."""

_WORKER: Final = "rms_deploy.benchmark.op.worker"


def bench_op(
    *,
    shapes: Sequence[str] = SHAPES,
    dtypes: Sequence[str] = ("float32", "float16", "bfloat16"),
    ops: Sequence[str] = USUAL_OPS,
    kernels: Sequence[str] = DEFAULT_KERNELS,
    threads: Sequence[int] = (1,),
    rounds: int = 5,
    duration: float = 0.2,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> OpBenchmarkResult:
    """Time one run of each kernel on each case, call overhead included.

    Each kernel has a process of its own, and only one runs at a time. In each round every kernel has `duration` /
    `rounds`, half of it for copies of the same tensor, so that a slow phase of the machine hits both.

    Args:
        shapes: as `16x4096`, or `1x256x56x56@1` for another axis than the last.
        dtypes: of X and the scale.
        ops: `norm`, `add-norm`; `norm-gate` and `gate-norm`, whose gate is behind the norm or in front of it;
            `norm-shift`; `add-float32-norm`, whose sum is normalised before it is rounded.
        kernels: names in `KERNELS`. One that is not installed, or does not take a case, is reported with its reason.
        threads: of each run; the copy always has one.
        rounds: how often the kernels take turns.
        duration: seconds for each kernel and case, over all rounds.
        on_progress: is called with the cases done, the cases in all, and what comes next.

    Raises:
        InputError: an unknown kernel, op or dtype, or a shape that is not valid.
    """
    for name in kernels:
        if name not in KERNELS:
            raise InputError(f"kernel {name!r} is not known; use {', '.join(map(repr, KERNELS))}")
    for op in ops:
        if op not in OP_KINDS:
            raise InputError(f"op {op!r} is not known; use {', '.join(OP_KINDS)}")
    for dtype in dtypes:
        element_dtype(dtype)
    if rounds < 1 or not duration > 0 or any(count < 1 for count in threads):
        raise InputError("use at least 1 of `rounds` and `threads`, and a `duration` of more than 0 seconds")
    provenance = Provenance.now()
    cases = [
        OpCase(op, dtype, *parse_shape(text), count)
        for text in shapes
        for dtype in dtypes
        for op in ops
        for count in threads
    ]
    timings: list[OpTiming] = []
    with ExitStack() as stack:
        processes = {name: BenchmarkProcess(module=_WORKER) for name in kernels}
        for process in processes.values():
            stack.callback(process.close)
            process.ask("start")
        for done, case in enumerate(cases):
            if on_progress is not None:
                on_progress(done, len(cases), f"{case.op} {case.dtype} {case.name}")
            timings += _case(processes, case, rounds, duration)
    return OpBenchmarkResult(
        timings=tuple(timings),
        rounds=rounds,
        duration=duration,
        provenance=provenance,
    )


def _case(processes: dict[str, BenchmarkProcess], case: OpCase, rounds: int, duration: float) -> list[OpTiming]:
    failures: dict[str, str] = {}
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in processes}

    def ask(name: str, do: str, **request: Any) -> dict[str, Any]:
        try:
            return processes[name].ask(do, **request)
        except RunError as error:
            failures[name] = str(error)
            return {}

    for name in processes:
        ask(name, "load", kernel=name, case=asdict(case))
    names = [name for name in processes if name not in failures]
    for _, name in turns(names, rounds, threads=case.threads):
        answer = ask(name, "run", seconds=duration / rounds)
        if answer:
            runs[name].append((median(answer["microseconds"]), median(answer["copy"])))
        else:
            names.remove(name)
    moved = tensor_bytes(case)
    return [OpTiming.of(case, name, runs[name], failures.get(name), moved) for name in processes]
