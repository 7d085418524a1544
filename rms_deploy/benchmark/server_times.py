"""What a server says of the time that its answers took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ServerTimes"]


@dataclass(frozen=True)
class ServerTimes:
    """Means over all requests of the measurement, as the server has counted them."""

    requests: int
    queue: float
    """Microseconds that a request waited to run."""
    compute: float
    """Microseconds that it ran, with the copies of inputs and outputs."""
    batched: float
    """Requests that one run of the model answered."""

    @classmethod
    def between(cls, before: Mapping[str, int], after: Mapping[str, int]) -> ServerTimes | None:
        """From the fields of `ServerStatistics`, taken twice; None: nothing was counted between the two."""
        requests, executions, queue, compute = (
            after[name] - before[name] for name in ("requests", "executions", "queue", "compute")
        )
        if requests <= 0 or executions <= 0:
            return None
        return cls(requests, queue / requests / 1e3, compute / requests / 1e3, requests / executions)
