"""One model of many, fused in a process of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from rms_deploy.benchmark.worker.process import BenchmarkProcess
from rms_deploy.errors import RunError
from rms_deploy.fusion.near_miss import NearMiss

__all__ = ["ModelFusion", "fuse_one"]

_WORKER: Final = "rms_deploy.deployment.fuse_worker"


@dataclass(frozen=True)
class ModelFusion:
    """What `fuse` did with one model of a folder."""

    model: str
    """The file, as seen from the folder."""
    seconds: float
    fused_count: int = 0
    """Norms that are one op now and were not before."""
    fused_before_count: int = 0
    """Norms that were one of our ops before, or in the form of the target."""
    near_misses: tuple[NearMiss, ...] = ()
    """What looks like RMSNorm and is not fused."""
    written: bool = False
    """Whether the fused model was written."""
    failure: str | None = None
    """Why the model could not be fused at all, in one line."""

    @property
    def norm_count(self) -> int:
        """Norms that were found, fused or not."""
        return self.fused_count + self.fused_before_count + len(self.near_misses)

    @property
    def why(self) -> str:
        """Why norms were left, the most frequent reason first; or the failure."""
        if self.failure is not None:
            return f"FAILED: {self.failure}"
        reasons = Counter(miss.reason for miss in self.near_misses).most_common()
        return "; ".join(f"{count} x {reason}" if count > 1 else reason for reason, count in reasons)


def fuse_one(name: str, model: Path, output: Path, options: Mapping[str, Any]) -> ModelFusion:
    """Fuse one model in a process of its own, so that one that crashes, or takes all memory, harms no other.

    Args:
        name: of the model in the result.
        model: the file.
        output: where the fused model goes.
        options: of `fuse`.
    """
    start = perf_counter()
    try:
        with closing(BenchmarkProcess(module=_WORKER)) as process:
            answer = process.ask("fuse", model=str(model), output=str(output), options=dict(options))
    except RunError as error:
        return ModelFusion(name, round(perf_counter() - start, 3), failure=str(error))
    return ModelFusion(
        name,
        round(perf_counter() - start, 3),
        fused_count=answer["norm_count"],
        fused_before_count=answer["fused_before_count"],
        near_misses=tuple(NearMiss(**miss) for miss in answer["near_misses"]),
        written=answer["written"],
    )
