"""How a benchmark measures: one object, which the result keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rms_deploy.errors import InputError

__all__ = ["MIN_LAUNCHES", "Method", "percentile_name"]

MIN_LAUNCHES: Final = 3
"""Fewer launches tell nothing of how much launches differ."""


@dataclass(frozen=True)
class Method:
    """How every candidate is measured."""

    threads: int = 1
    """Of each candidate's session."""
    concurrency: int = 1
    """Clients that call one session at the same time, each as soon as its last call returned."""
    launches: int = 5
    """How often each candidate is started anew. Of fewer than 3 nothing is called faster or slower."""
    rounds: int = 4
    """How often the candidates take turns in each launch."""
    duration: float = 2.0
    """Seconds measured for each candidate, over all launches and rounds."""
    iterations: int = 0
    """Runs measured for each candidate at least, over all launches and rounds, even if that takes longer."""
    warmup: float = 1.0
    """Seconds after which the warm-up of a launch ends even if the latency still drifts."""
    max_time: float | None = None
    """Seconds in which `bench` ends, loading included, as it measures less; on a cluster each point does. None: no
    limit."""
    timeout: float = 600.0
    """Seconds without an answer, beyond those it was asked to run, after which a candidate counts as hung."""
    percentiles: tuple[float, ...] = (90.0, 99.0)
    """Reported beside the median."""
    cuda_graph: bool = True
    """Engines run as CUDA graphs."""
    seed: int = 0
    """Of random inputs."""
    generate: int | None = None
    """Tokens that each run generates after the prompt, the key-value cache fed back; latencies are then per token.
    None: a run is one run of the model."""

    def check(self) -> None:
        """Raise InputError for a value out of range."""
        if self.generate is not None and self.generate < 1:
            raise InputError(f"`generate` is {self.generate}; use at least 1")
        for name, least in (("threads", 1), ("concurrency", 1), ("launches", 1), ("rounds", 1), ("iterations", 0)):
            if getattr(self, name) < least:
                raise InputError(f"`{name}` is {getattr(self, name)}; use at least {least}")
        for name in ("duration", "warmup"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"`{name}` is {getattr(self, name)}; use 0 seconds or more")
        for name in ("max_time", "timeout"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"`{name}` is {value}; use more than 0 seconds")
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
        yield f"{self.launches} launches, each warmed up until the latency drifts no more, {self.warmup:g} s at most"
        yield f"{self.rounds} rounds in turns in each launch, another first in each; {self.duration:g} s each in all"
        yield (
            "faster or slower is said only where the 95 % interval of the ratio (Student's t over the launches) lies "
            "on one side of 1, and the ratio beyond what two equal candidates (A/A) may differ by"
        )


def percentile_name(value: float) -> str:
    """As in p99 or p99.9."""
    return f"p{value:g}"
