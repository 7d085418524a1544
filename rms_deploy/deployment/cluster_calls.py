"""Calls as Ray tasks. Ray decides which node runs what, and runs again what was lost with a node."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from rms_deploy.errors import RmsDeployError, RunError, one_line

__all__ = ["Call", "CallGroup", "results"]

_log = logging.getLogger(__name__)

_RETRIES: Final = 3
"""How often a call runs again that was lost with its node."""
_AHEAD: Final = 2
"""Calls for each place that Ray is told of: one runs, one waits. More would hold the files of more models in memory."""
_CANCEL_SECONDS: Final = 10.0
"""Seconds that calls have to end their processes and remove their files."""
_ROOM_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 5.0
"""Seconds without a result after which the nodes are counted."""


class Call(NamedTuple):
    """What a task runs."""

    function: Callable[..., dict[str, Any]]
    """Of a module; it is called as `function(files, **arguments)`."""
    arguments: Mapping[str, Any]
    files: Mapping[str, Any]
    """By name, as `Cluster.send` returned them; the function gets their contents."""


class CallGroup:
    """Nodes that share calls. It reserves room on each node, for so many calls at a time as Ray finds room for."""

    def __init__(
        self, ray: Any, nodes: Mapping[str, int], calls: Iterator[tuple[Any, Call]], *, cpus: int, gpus: int
    ) -> None:
        """Reserve the room.

        Args:
            ray: the module, connected.
            nodes: how many calls each may run at a time, by Ray's names of them.
            calls: by their keys; the next one is asked for when it is about to run.
            cpus: that a call takes.
            gpus: that a call takes.
        """
        self.nodes = frozenset(nodes)
        self.pending: dict[Any, Any] = {}
        """The key of each call that Ray was told of, by its future result."""
        self.is_silent = False
        """Whether it need not be said that there is no room: a call has ended, or it was said."""
        self._ray, self._calls, self._ahead = ray, calls, _AHEAD * sum(nodes.values())
        self._places = ray.util.placement_group(
            [{"CPU": float(cpus * n), **({"GPU": float(gpus * n)} if gpus else {})} for n in nodes.values()],
            strategy="STRICT_SPREAD",
            bundle_label_selector=[{"ray.io/node-id": node} for node in nodes],
        )
        place = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(self._places)
        self._task = ray.remote(_run).options(
            num_cpus=cpus, num_gpus=gpus, max_retries=_RETRIES, scheduling_strategy=place
        )

    def submit(self) -> None:
        """Tell Ray of the next calls."""
        while len(self.pending) < self._ahead:
            following = next(self._calls, None)
            if following is None:
                return
            key, (function, arguments, files) = following
            self.pending[self._task.remote(function, arguments, list(files), *files.values())] = key

    def say_that_it_waits(self) -> None:
        """Warn once if the room is not there yet: without it no call begins."""
        if not self.is_silent and not self._places.wait(_ROOM_SECONDS):
            _log.warning("waiting for room on %d nodes; other Ray jobs have their CPUs or GPUs", len(self.nodes))
        self.is_silent = True

    def give_up(self) -> list[Any]:
        """Forget all calls, and return their keys."""
        keys = [*self.pending.values(), *(key for key, _ in self._calls)]
        for result in self.pending:
            self._ray.cancel(result)
        self.pending.clear()
        return keys

    def close(self) -> None:
        """End what still runs, and give the room back."""
        running = list(self.pending)
        for result in running:
            self._ray.cancel(result)
        if running:
            self._ray.wait(running, num_returns=len(running), timeout=_CANCEL_SECONDS)
        self._ray.util.remove_placement_group(self._places)


def results(ray: Any, groups: Sequence[CallGroup]) -> Iterator[tuple[Any, dict[str, Any] | RmsDeployError]]:
    """The key of each call and its result, as it ends; an error if there is none.

    Raises:
        RayTaskError: a bug of a function.
    """
    while True:
        for group in groups:
            group.submit()
        pending = [result for group in groups for result in group.pending]
        if not pending:
            return
        done, _ = ray.wait(pending, timeout=_LOOK_SECONDS)
        for group in groups:
            for result in group.pending.keys() & set(done):
                group.is_silent = True
                yield group.pending.pop(result), _result(ray, result)
        if not done:
            for group in groups:
                group.say_that_it_waits()
            alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
            for group in groups:
                if not alive & group.nodes:
                    yield from ((key, RunError("no node is left that could run it")) for key in group.give_up())


def _result(ray: Any, result: Any) -> dict[str, Any] | RmsDeployError:
    try:
        answer: dict[str, Any] | RmsDeployError = ray.get(result)
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        return RunError(f"its node was lost {_RETRIES + 1} times: {one_line(error)}")
    return answer


def _run(
    function: Callable[..., dict[str, Any]], arguments: Mapping[str, Any], names: Sequence[str], *contents: Any
) -> dict[str, Any] | RmsDeployError:
    """The task. A user's mistake is a result, because Ray would wrap an error in a traceback."""
    try:
        return function(dict(zip(names, contents, strict=True)), **arguments)
    except RmsDeployError as error:
        return error
