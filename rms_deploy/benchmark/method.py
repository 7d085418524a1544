"""How a benchmark measures: one object, which the result keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rms_deploy.errors import InputError

__all__ = ["Method", "percentile_name"]


@dataclass(frozen=True)
class Method:
    """How every candidate is measured."""

    threads: int = 1
    """Of each candidate's session."""
    concurrency: int = 1
    """Clients that call one session at the same time, each as soon as its last call returned."""
    rounds: int = 10
    """How often the candidates take turns."""
    duration: float = 2.0
    """Seconds measured for each candidate, over all rounds."""
    warmup: float = 5.0
    """Seconds after which the warm-up of a candidate ends even if its latency still drifts."""
    timeout: float = 600.0
    """Seconds without an answer, beyond those it was asked to run, after which a candidate counts as hung."""
    percentiles: tuple[float, ...] = (90.0, 99.0)
    """Reported beside the median."""
    seed: int = 0
    """Of random inputs."""
    generate: int | None = None
    """Tokens that each run generates after the prompt, the key-value cache fed back; latencies are then per token.
    None: a run is one run of the model."""

    def check(self) -> None:
        """Raise InputError for a value out of range."""
        for name in ("threads", "concurrency", "rounds", "generate"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"`{name}` is {value}; use at least 1")
        for name in ("duration", "warmup"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"`{name}` is {getattr(self, name)}; use 0 seconds or more")
        if not 0 < self.timeout < float("inf"):
            raise InputError(f"`timeout` is {self.timeout}; use more than 0 seconds")
        for value in self.percentiles:
            if not 0 <= value <= 100:
                raise InputError(f"percentile {value:g} is out of range; use 0 to 100")

    def sentences(self) -> Iterator[str]:
        """The method in words, to be printed with the result."""
        clients = "" if self.concurrency == 1 else f", called by {self.concurrency} clients at a time"
        yield f"each candidate in a process of its own, {self.threads} thread{'s' * (self.threads > 1)}{clients}"
        yield "all get the same inputs, and only one runs at a time"
        if self.generate is not None:
            yield (
                f"a run generates {self.generate} token{'s' * (self.generate > 1)} after the prompt, each that of the "
                "largest logit, with the cache of the one before; latencies are those of runs divided by their tokens, "
                "without the prompt"
            )
        yield f"warm-up until the latency drifts no more, {self.warmup:g} s at most"
        yield f"then {self.rounds} rounds in turns, another first in each; {self.duration:g} s each in all"
        yield (
            "faster or slower is said only where the 95 % interval (order statistics) of the ratios of the rounds' "
            "medians lies on one side of 1"
        )


def percentile_name(value: float) -> str:
    """As in p99 or p99.9."""
    return f"p{value:g}"
