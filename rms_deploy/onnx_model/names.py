"""Names for what is put into a model: each is unique over all of its graphs, bodies and functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cached_property

import onnx_ir as ir

from rms_deploy.ops.nodes import all_graphs, bodies_of

__all__ = ["Names"]


class Names:
    """The names of the values, and those of the nodes, of some graphs and all bodies inside them.

    onnx-ir names a value `val_0` when its node enters a graph, which knows neither the values of other graphs, nor
    those that were there before. So whoever puts nodes into a graph settles them afterwards.
    """

    def __init__(self, roots: Iterable[ir.Graph]) -> None:
        """Of `roots`; they are walked over when the first node is settled."""
        self._roots = tuple(roots)
        self._new: set[ir.Node] = set()

    def settle(self, nodes: Collection[ir.Node], *, keep: Collection[ir.Value | ir.Node] = ()) -> None:
        """Rename what bears a name that was taken before.

        Args:
            nodes: new ones, in a graph of the model; those of bodies inside them are listed too.
            keep: those of them, and of their outputs, that took the place of others, and with it their names.
        """
        self._new.update(nodes)
        values, names = self._pools
        kept = set(map(id, keep))
        for heir in keep:
            if heir.name:
                (values if isinstance(heir, ir.Value) else names).taken.add(heir.name)
        for node in nodes:
            if node.name and id(node) not in kept:
                node.name = names.unique(node.name)
            for value in node.outputs:
                if value.name and id(value) not in kept:
                    value.name = values.unique(value.name)
            for body in bodies_of(node):
                for value in {*body.inputs, *body.initializers.values()}:
                    _rename(value, values.unique(value.name or ""))

    def unique(self, name: str) -> str:
        """`name` for a value, or one that begins with it and is not taken; no other value gets it."""
        return self._pools[0].unique(name)

    def rename(self, named: ir.Value | ir.Node, name: str) -> None:
        """Give a value, or a node, of the graphs `name`, or one that begins with it and is not taken."""
        values, nodes = self._pools
        if isinstance(named, ir.Value):
            _rename(named, values.unique(name))
        else:
            named.name = nodes.unique(name)

    def is_taken(self, name: str) -> bool:
        """Whether a value has this name."""
        return name in self._pools[0].taken

    @cached_property
    def _pools(self) -> tuple[_Pool, _Pool]:
        """Names of values and of nodes, but for the new ones."""
        values: set[str | None] = set()
        nodes: set[str | None] = set()
        new = {id(body) for node in self._new for body in bodies_of(node)}
        for graph in all_graphs(self._roots):
            if id(graph) not in new:
                values.update([value.name for value in graph.inputs])
                values.update(graph.initializers)
            for node in graph:
                if node not in self._new:
                    nodes.add(node.name)
                    values.update([value.name for value in node.outputs])
        return _Pool(values), _Pool(nodes)


def _rename(value: ir.Value, name: str) -> None:
    """The name of an initialiser is that of its tensor too, which may be shared."""
    tensor = value.const_value
    if name != value.name and tensor is not None:
        value.const_value = ir.LazyTensor(lambda: tensor, dtype=tensor.dtype, shape=ir.Shape(tensor.shape.numpy()))
    value.name = name


class _Pool:
    """Names of one kind."""

    def __init__(self, names: Iterable[str | None]) -> None:
        self.taken = {name for name in names if name}
        self._last: dict[str, int] = {}  # the suffix that was given last, as there may be thousands of one name

    def unique(self, name: str) -> str:
        candidate, number = name, self._last.get(name, 1)
        while candidate in self.taken:
            number += 1
            candidate = f"{name}_{number}"
        self._last[name] = number
        self.taken.add(candidate)
        return candidate
