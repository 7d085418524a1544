"""What the op benchmark measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rms_deploy.benchmark.op.other_kernels import OpCase
from rms_deploy.benchmark.provenance import Provenance

__all__ = ["OpBenchmarkResult", "OpTiming", "best"]


@dataclass(frozen=True)
class OpTiming:
    """One peer on one case."""

    case: OpCase
    peer: str
    failure: str | None
    """Why there are no numbers: the peer is not installed, or does not take the case."""
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
        cls, case: OpCase, peer: str, rounds: Sequence[tuple[float, float]], failure: str | None, moved: int
    ) -> OpTiming:
        """From the medians of run and copy in each round, in microseconds; `moved` in bytes."""
        if failure is not None or not rounds:
            return cls(case, peer, failure or "nothing was measured")
        microseconds = median(run for run, _ in rounds)
        return cls(
            case,
            peer,
            None,
            microseconds=microseconds,
            copy_microseconds=median(copy for _, copy in rounds),
            copies=median(run / copy for run, copy in rounds),
            gigabytes_per_second=moved / microseconds / 1e3,
        )


@dataclass(frozen=True)
class OpBenchmarkResult:
    """The result of `bench_op`, with all that is needed to run it again."""

    timings: tuple[OpTiming, ...]
    rounds: int
    seconds: float
    provenance: Provenance

    def cases(self) -> list[tuple[OpCase, list[OpTiming]]]:
        """The timings of each case, in order."""
        grouped: dict[OpCase, list[OpTiming]] = {}
        for timing in self.timings:
            grouped.setdefault(timing.case, []).append(timing)
        return list(grouped.items())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def best(timings: Sequence[OpTiming], *, prefix: str = "") -> OpTiming | None:
    """The fastest of the other kernels that compute the same, of those whose name starts so; None: there is none."""
    others = [
        timing
        for timing in timings
        if timing.microseconds is not None
        and timing.peer.startswith(prefix)
        and not timing.peer.startswith("ours")
        and timing.peer.split()[-1] != "LayerNormalization"
    ]
    return min(others, key=lambda timing: timing.microseconds or 0.0, default=None)
