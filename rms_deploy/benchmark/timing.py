"""Timing: a function is run again and again, first until it is warm, then to be measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Any, Final

__all__ = ["SLOW_RUN", "drifts", "measure", "measure_clients", "warm_up"]

SLOW_RUN: Final = 0.05
"""A run of more seconds than this reads and computes so much that it hardly matters what the caches held before."""

_WINDOW: Final = 8
"""Number of batches in which a drift is looked for."""
_BATCHES: Final = 50
"""Number of batches in the longest warm-up."""


def measure(run: Callable[[], Any], seconds: float, runs: int = 1) -> list[float]:
    """Microseconds of each run for about `seconds`, and of at least so many runs.

    One run before them is not counted, because another process has filled the caches in the meantime. It is the first
    that counts if it is slow and takes all of the time.
    """
    first = _timed(run, 0, 1)
    if first[0] / 1e6 < max(seconds, SLOW_RUN):
        return _timed(run, seconds, runs)
    return first if runs <= 1 else first + _timed(run, 0, runs - 1)


def measure_clients(run: Callable[[], Any], seconds: float, clients: int, runs: int = 1) -> tuple[list[float], float]:
    """Microseconds of each run by several clients at once, each in a thread, and the seconds that all of them took.

    All clients together make at least `runs` runs.

    A client waits for its answer before it asks again (a closed loop), so latency grows with the number of clients
    once the cores are taken.
    """
    if clients == 1:
        latencies = measure(run, seconds, runs)
        return latencies, sum(latencies) / 1e6

    def client() -> tuple[list[float], float, float]:
        run()
        start = perf_counter()
        own = _timed(run, seconds, -(-runs // clients))
        return own, start, perf_counter()

    with ThreadPoolExecutor(clients) as pool:
        results = [future.result() for future in [pool.submit(client) for _ in range(clients)]]
    elapsed = max(end for _, _, end in results) - min(start for _, start, _ in results)
    return [latency for own, _, _ in results for latency in own], elapsed


def warm_up(run: Callable[[], Any], seconds: float, clients: int = 1) -> tuple[bool, float | None]:
    """Run until the latency drifts no more, but at most for about `seconds`.

    Returns:
        Whether it settled, or still drifted at the end; and the last latency in seconds, None of no warm-up.
    """
    medians: list[float] = []
    end = perf_counter() + seconds
    while seconds and perf_counter() < end:
        medians.append(median(measure_clients(run, seconds / _BATCHES, clients)[0]))
        if len(medians) >= _WINDOW and not drifts(medians[-_WINDOW:]):
            return True, medians[-1] / 1e6
    return False, medians[-1] / 1e6 if medians else None


def drifts(medians: Sequence[float]) -> bool:
    """Whether the later half lies below the earlier half, or above it. One value of each half may be an exception.

    A comparison of ranks needs no threshold in percent, and so fits a quiet machine and a noisy one. If nothing
    drifts, all orders are equally likely, and 34 of the 70 ways to deal 8 values into two halves look like a drift;
    then the next batch is asked.
    """
    half = len(medians) // 2
    early, late = sorted(medians[:half]), sorted(medians[half:])
    return late[-2] < early[1] or early[-2] < late[1]


def _timed(run: Callable[[], Any], seconds: float, runs: int) -> list[float]:
    latencies = []
    end = perf_counter() + seconds
    while True:
        start = perf_counter_ns()
        run()
        latencies.append((perf_counter_ns() - start) / 1000)
        if len(latencies) >= runs and perf_counter() >= end:
            return latencies
