"""Whether the nodes of a graph can be put in order, and the functions of a model be written out."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Final, TypeVar

from rms_deploy.onnx_model.malformed import MalformedError

__all__ = ["MAX_NODES", "check_acyclic", "check_calls"]

MAX_NODES: Final = 1_000_000
"""Nodes that a model may have once every call of a local function is written out."""

Name = TypeVar("Name", bound=Hashable)


def check_acyclic(nodes: Sequence[tuple[str, Sequence[Name], Sequence[Name]]]) -> None:
    """Whether some order of `nodes`, each a label, what it reads and what it writes, computes all before it is read.

    Raises:
        MalformedError: some of them need each other in a circle; one is named.
    """
    producers = {name: index for index, (_, _, written) in enumerate(nodes) for name in written if name != ""}
    readers: list[list[int]] = [[] for _ in nodes]
    waiting = [0] * len(nodes)
    for index, (_, read, _) in enumerate(nodes):
        for source in {producers[name] for name in read if name in producers}:
            readers[source].append(index)
            waiting[index] += 1
    ready = [index for index, count in enumerate(waiting) if not count]
    for index in ready:  # grows
        for reader in readers[index]:
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    if len(ready) < len(nodes):
        stuck = next(index for index, count in enumerate(waiting) if count)
        raise MalformedError(f"{nodes[stuck][0]}: its input depends on its own output")


def check_calls(calls: Mapping[Name, Mapping[Name, int]], sizes: Mapping[Name, int], start: Name) -> None:
    """Whether every call can be written out, in a model of at most `MAX_NODES` nodes.

    Args:
        calls: how often each function calls each other one; `start` stands for the main graph.
        sizes: the nodes of each.
        start: whose size is bounded.

    Raises:
        MalformedError: functions call each other in a circle, or the model would be larger.
    """
    functions = [("", list(called), [function]) for function, called in calls.items()]
    try:
        check_acyclic(functions)
    except MalformedError:
        raise MalformedError("local functions call themselves") from None
    total: dict[Name, int] = {}
    pending = [start]
    while pending:
        function = pending[-1]
        inner = [name for name in calls.get(function, ()) if name not in total]
        if inner:
            pending += inner
            continue
        pending.pop()
        count = sizes[function] + sum(times * total[name] for name, times in calls.get(function, {}).items())
        total[function] = min(count, MAX_NODES + 1)
    if total[start] > MAX_NODES:
        raise MalformedError(f"its local functions, written out, are more than {MAX_NODES} nodes")
