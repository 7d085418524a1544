"""What the op benchmark measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rms_deploy.benchmark.op.cases import OpCase
from rms_deploy.benchmark.provenance import Provenance
from rms_deploy.benchmark.result import FORMAT
from rms_deploy.display import Displayed, Table
from rms_deploy.ops.foreign_ops import FOREIGN_NORMS

__all__ = ["OpBenchmarkResult", "OpTiming", "best"]


@dataclass(frozen=True)
class OpTiming:
    """One kernel on one case."""

    case: OpCase
    kernel: str
    failure: str | None
    """Why there are no numbers: the kernel is not installed, or does not take the case."""
    microseconds: float | None = None
    """Median over the rounds of each round's median."""
    copy_microseconds: float | None = None
    """Of the copies beside it."""
    copies: float | None = None
    """Median over the rounds of run / copy."""
    gigabytes_per_second: float | None = None
    """Of the traffic that the op must have: each tensor once."""

    @classmethod
    def of(
        cls, case: OpCase, kernel: str, rounds: Sequence[tuple[float, float]], failure: str | None, moved: int
    ) -> OpTiming:
        """From the medians of run and copy in each round, in microseconds; `moved` in bytes."""
        if failure is not None or not rounds:
            return cls(case, kernel, failure or "nothing was measured")
        microseconds = median(run for run, _ in rounds)
        return cls(
            case,
            kernel,
            None,
            microseconds=microseconds,
            copy_microseconds=median(copy for _, copy in rounds),
            copies=median(run / copy for run, copy in rounds),
            gigabytes_per_second=moved / microseconds / 1e3,
        )


@dataclass(frozen=True, repr=False)
class OpBenchmarkResult(Displayed):
    """The result of `bench_op`, with all that is needed to run it again."""

    timings: tuple[OpTiming, ...]
    rounds: int
    duration: float
    """Seconds for each kernel and case, over all rounds."""
    provenance: Provenance

    def cases(self) -> list[tuple[OpCase, list[OpTiming]]]:
        """The timings of each case, in order."""
        grouped: dict[OpCase, list[OpTiming]] = {}
        for timing in self.timings:
            grouped.setdefault(timing.case, []).append(timing)
        return list(grouped.items())

    def tables(self) -> Iterable[Table]:
        """A row for each kernel on each case that it takes."""
        rows = []
        for case, timings in self.cases():
            fastest = best(timings)
            labels = case.op, case.dtype, case.name, str(case.threads)
            rows += [(*labels, t.kernel, *_numbers(t, fastest)) for t in timings if t.microseconds is not None]
        header = ("op", "dtype", "shape", "threads", "kernel", "us", "GB/s", "copies", "x best other")
        yield Table(header, rows, left=5, first_to_go=("GB/s", "us", "x best other", "threads"))

    def _line(self) -> str:
        return f"{len({t.kernel for t in self.timings})} kernels on {len(self.cases())} cases"

    def to_dict(self) -> dict[str, Any]:
        """For JSON. Times are in microseconds."""
        return {"format": FORMAT, **asdict(self)}


def _numbers(timing: OpTiming, fastest: OpTiming | None) -> tuple[str, ...]:
    assert timing.microseconds is not None, timing.kernel
    against = "" if fastest is None else f"{timing.microseconds / (fastest.microseconds or 1.0):.2f}"
    return f"{timing.microseconds:.1f}", f"{timing.gigabytes_per_second:.1f}", f"{timing.copies:.2f}", against


def best(timings: Sequence[OpTiming], *, prefix: str = "") -> OpTiming | None:
    """The fastest of the kernels that are not ours and compute the same; None: there is none.

    Args:
        timings: of one case.
        prefix: that the name of the kernel has.
    """
    others = [
        timing
        for timing in timings
        if timing.microseconds is not None
        and timing.kernel.startswith(prefix)
        and not timing.kernel.startswith("ours")
        and _is_rms(timing.kernel)
    ]
    return min(others, key=lambda timing: timing.microseconds or 0.0, default=None)


def _is_rms(kernel: str) -> bool:
    norm = FOREIGN_NORMS.get(kernel.split()[-1])
    return norm is None or norm.is_rms
