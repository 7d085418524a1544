"""One norm at a time: our kernels beside those of other runtimes, as multiples of a plain copy of the same tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from statistics import median
from typing import Any, Final

from rms_deploy.benchmark.op.other_kernels import PEERS, OpCase, tensor_bytes
from rms_deploy.benchmark.op.result import OpBenchmarkResult, OpTiming
from rms_deploy.benchmark.provenance import Provenance
from rms_deploy.benchmark.turns import turns
from rms_deploy.benchmark.worker.process import BenchmarkProcess
from rms_deploy.errors import InputError, RunError
from rms_deploy.ops.element_types import element_dtype

__all__ = ["DEFAULT_PEERS", "OPS", "SHAPES", "bench_op"]

OPS: Final = ("norm", "add-norm")
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

DEFAULT_PEERS: Final = tuple(name for name in PEERS if name != "torch compiled")
"""All but the one that compiles for seconds before each case."""

_WORKER: Final = "rms_deploy.benchmark.op.worker"


def bench_op(
    *,
    shapes: Sequence[str] = SHAPES,
    dtypes: Sequence[str] = ("float32", "float16", "bfloat16"),
    ops: Sequence[str] = OPS,
    peers: Sequence[str] = DEFAULT_PEERS,
    threads: Sequence[int] = (1,),
    rounds: int = 5,
    seconds: float = 0.2,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> OpBenchmarkResult:
    """Time one run of each peer on each case, call overhead included.

    Each peer has a process of its own, and only one runs at a time; in each round every peer runs for `seconds` /
    `rounds`, half of that copying the same tensor, so that a slow phase of the machine hits both.

    Args:
        shapes: as `16x4096`, or `1x256x56x56@1` for another axis than the last.
        dtypes: of X and the scale.
        ops: `norm`, `add-norm`.
        peers: names in `PEERS`. One that is not installed, or does not take a case, is reported with its reason.
        threads: of each run; the copy always has one.
        rounds: how often the peers take turns.
        seconds: measured for each peer and case, over all rounds.
        on_progress: is called with the cases done, the cases in all, and what comes next.

    Raises:
        InputError: an unknown peer, op or dtype, or a shape that is none.
    """
    for name in peers:
        if name not in PEERS:
            raise InputError(f"peer {name!r} is unknown; use {', '.join(PEERS)}")
    for op in ops:
        if op not in OPS:
            raise InputError(f"op {op!r} is unknown; use {', '.join(OPS)}")
    for dtype in dtypes:
        element_dtype(dtype)
    if rounds < 1 or not seconds > 0 or any(count < 1 for count in threads):
        raise InputError("use at least 1 round, 1 thread, and more than 0 seconds")
    provenance = Provenance.now()
    cases = [
        OpCase(op, dtype, *_shape(text), count)
        for text in shapes
        for dtype in dtypes
        for op in ops
        for count in threads
    ]
    timings: list[OpTiming] = []
    with ExitStack() as stack:
        processes = {name: BenchmarkProcess(module=_WORKER) for name in peers}
        for process in processes.values():
            stack.callback(process.close)
            process.ask("start")
        for done, case in enumerate(cases):
            if on_progress is not None:
                on_progress(done, len(cases), f"{case.op} {case.dtype} {case.name}")
            timings += _case(processes, case, rounds, seconds)
    return OpBenchmarkResult(
        timings=tuple(timings),
        rounds=rounds,
        seconds=seconds,
        provenance=provenance,
    )


def _case(processes: dict[str, BenchmarkProcess], case: OpCase, rounds: int, seconds: float) -> list[OpTiming]:
    failures: dict[str, str] = {}
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in processes}

    def ask(name: str, do: str, **request: Any) -> dict[str, Any]:
        try:
            return processes[name].ask(do, **request)
        except RunError as error:
            failures[name] = str(error)
            return {}

    for name in processes:
        ask(name, "load", peer=name, case=asdict(case))
    names = [name for name in processes if name not in failures]
    for _, name in turns(names, rounds, threads=case.threads):
        answer = ask(name, "run", seconds=seconds / rounds)
        if answer:
            runs[name].append((median(answer["microseconds"]), median(answer["copy"])))
        else:
            names.remove(name)
    moved = tensor_bytes(case)
    return [OpTiming.of(case, name, runs[name], failures.get(name), moved) for name in processes]


def _shape(text: str) -> tuple[tuple[int, ...], int]:
    sizes, _, axis = text.partition("@")
    try:
        shape = tuple(int(size) for size in sizes.split("x"))
        number = int(axis or -1)
    except ValueError:
        shape, number = (), 0
    if not shape or min(shape) < 1 or not -len(shape) <= number < len(shape):
        raise InputError(f"shape {text!r} is none; use sizes as in 16x4096, and @axis for another axis than the last")
    return shape, number
