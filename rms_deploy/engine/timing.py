"""Two engines of one model, timed one after the other on this GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from rms_deploy.benchmark.latency import Latency
from rms_deploy.benchmark.timing import measure
from rms_deploy.benchmark.turns import turns
from rms_deploy.runtime.tensorrt_api import TensorRT

__all__ = ["EngineTimes", "TimedPlan", "time_engines"]

_LAUNCHES: Final = 5
"""Each loads both engines anew. A loaded engine keeps its place in memory, and that sets its speed."""
_ROUNDS: Final = 4
_ROUND_SECONDS: Final = 0.1
_WARMUP_SECONDS: Final = 0.2


class TimedPlan(NamedTuple):
    """An engine that was built, and is not written yet."""

    data: Any
    embeds_plugin: bool
    holds_runtime: bool
    """Whether it is version-compatible."""


class EngineTimes(NamedTuple):
    """Of two engines."""

    candidate: Latency
    other: Latency
    cuda_graph: bool
    """Whether both ran as CUDA graphs; False: the runtime cannot capture one of them."""


def time_engines(
    api: TensorRT, candidate: TimedPlan, other: TimedPlan, feeds: Mapping[str, NDArray[Any]]
) -> EngineTimes:
    """Run both on the same inputs, in some launches: first, second; second, first; and so on.

    Only one is in the memory of the GPU at a time, so that a model which fills it can be timed.

    Args:
        api: the runtime that built them.
        candidate: one engine.
        other: another one.
        feeds: of both.

    Raises:
        RunError: one of them does not load or run here.
        InstallationError, MissingDependencyError: nothing runs engines here.
    """
    plans = (candidate, other)
    for cuda_graph in (True, False):
        launches: tuple[list[list[list[float]]], list[list[list[float]]]] = ([], [])
        for _, index in turns((0, 1), _LAUNCHES):
            rounds = _measured(api, plans[index], feeds, cuda_graph=cuda_graph)
            if rounds is None:
                break
            launches[index].append(rounds)
        else:
            return EngineTimes(Latency.of(launches[0]), Latency.of(launches[1]), cuda_graph)
    raise AssertionError("an engine is only left out where a CUDA graph was asked for")


def _measured(
    api: TensorRT, plan: TimedPlan, feeds: Mapping[str, NDArray[Any]], *, cuda_graph: bool
) -> list[list[float]] | None:
    """Microseconds of the runs of each round; None: a CUDA graph is asked for, and the runtime cannot capture it."""
    from rms_deploy.runtime import tensorrt_session as runtime

    session = runtime.session(
        plan.data,
        runtime=api.name,
        embedded_plugin=plan.embeds_plugin,
        holds_runtime=plan.holds_runtime,
        cuda_graph=cuda_graph,
    )
    run = runtime.bound_run(session, feeds)
    if run.cuda_graph != cuda_graph:
        return None
    measure(run, _WARMUP_SECONDS)
    return [measure(run, _ROUND_SECONDS) for _ in range(_ROUNDS)]
