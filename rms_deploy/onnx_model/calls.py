"""The calls of a model's local functions: who calls whom, in which order, and how large all of it is once inlined."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import onnx_ir as ir

from rms_deploy.ops.contract import DOMAIN

__all__ = ["Calls"]

_Key = ir.OperatorIdentifier

_MAX_NODES: Final = 100_000
"""Nodes of a model with all calls inlined, beyond which nobody may inline it: a function may double what it calls."""

_MAX_DEPTH: Final = 64
"""Calls inside calls, beyond which onnx, which recurses, may run out of stack."""


class Calls:
    """The calls of one model. They are read once; the model must not change while they are used."""

    def __init__(self, model: ir.Model) -> None:
        self._functions = model.functions
        self._of: dict[_Key, list[tuple[_Key | None, ir.Node]]] = defaultdict(list)
        """The callers of a function, each with the function that it stands in; None: the main graph."""
        self._sizes: dict[_Key | None, int] = {}
        """Nodes of a function, None: of the main graph, without what they call."""
        if model.functions:
            for owner, graph in ((None, model.graph), *((f.identifier(), f.graph) for f in model.functions.values())):
                self._sizes[owner] = 0
                for node in ir.traversal.RecursiveGraphIterator(graph):
                    self._sizes[owner] += 1
                    if node.op_identifier() in model.functions:
                        self._of[node.op_identifier()].append((owner, node))

    def of(self, function: ir.Function) -> list[ir.Node]:
        """The nodes that call `function`."""
        return [node for _, node in self._of[function.identifier()]]

    def in_order(self) -> list[ir.Function]:
        """The functions of others, each after all that call it. Functions that call themselves are left out."""
        return [self._functions[key] for key in self._order() if key[0] != DOMAIN]

    def may_be_inlined(self) -> bool:
        """Whether the model stays within bounds with all calls inlined, as onnx's shape inference inlines them."""
        order = self._order()
        if len(order) < len(self._functions):
            return False
        sizes, depths = dict(self._sizes), dict.fromkeys(self._sizes, 0)
        for key in reversed(order):
            for owner, _ in self._of[key]:
                sizes[owner] = min(sizes[owner] + sizes[key], _MAX_NODES + 1)
                depths[owner] = max(depths[owner], depths[key] + 1)
        return sizes.get(None, 0) <= _MAX_NODES and depths.get(None, 0) <= _MAX_DEPTH

    def _order(self) -> list[_Key]:
        """The functions, each after its callers; without those that call themselves, and what only they call."""
        waiting = {key: len(self._of[key]) for key in self._functions}
        callees: dict[_Key | None, list[_Key]] = defaultdict(list)
        for key in self._functions:
            for owner, _ in self._of[key]:
                callees[owner].append(key)
        ready: list[_Key] = [key for key, count in waiting.items() if not count]
        order: list[_Key] = []
        done: list[_Key | None] = [None]
        while done:
            for key in callees[done.pop()]:
                waiting[key] -= 1
                if not waiting[key]:
                    ready.append(key)
            while ready:
                order.append(ready.pop())
                done.append(order[-1])
        return order
