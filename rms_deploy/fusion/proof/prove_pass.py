"""A few nodes cut out of their model, and run before and after a pass has rewritten them."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.fusion.norm import PROOF
from rms_deploy.fusion.proof.prove import Proof, compare, proven
from rms_deploy.fusion.proof.subgraph import MAX_ELEMENTS, MAX_RANK, concrete, renamed
from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.constants import constant
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.foreign_ops import CONTRIB_DOMAIN
from rms_deploy.ops.functions import attach_functions

__all__ = ["PassProver", "keep_proof"]

_OPSET = 18
"""The first with ReduceMean as the bodies have it. What stands around a norm is the same up to here."""


_MAX_STEPS = 256
"""Inputs of nodes that are looked at for a proof. A norm with its gate has some twenty."""


def keep_proof(norm: ir.Node, proof: Proof, why_not: str) -> bool:
    """Whether both forms agreed: then `norm` gets the proof in its `meta`, else the reason, under the key `why_not`."""
    if not proof.passed:
        norm.meta[why_not] = proof.why_not
        return False
    before: Proof | None = norm.meta.get(PROOF)
    norm.meta[PROOF] = proof if before is None else before.then(proof)
    return True


class PassProver:
    """Runs nodes, each kind once, as a model of their own, and that model as a pass rewrites it."""

    def __init__(self, rewrite: ir.passes.InPlacePass, facts: Facts) -> None:
        self._rewrite = rewrite
        self._facts = facts
        self._proofs: dict[bytes, Proof] = {}

    def __call__(
        self,
        nodes: Sequence[ir.Node],
        outputs: Sequence[ir.Value],
        *,
        x: ir.Value | None = None,
        norm: ir.Node | None = None,
    ) -> Proof:
        """Run `nodes`, sorted; the first of `outputs` is that of the norm.

        Args:
            nodes: one of them is the norm.
            outputs: of the nodes.
            x: what is fed rows of all kinds; default: what the first node reads.
            norm: default: the last node.
        """
        x = nodes[0].inputs[0] if x is None else x
        return proven(lambda: self._run(nodes, outputs, x, nodes[-1] if norm is None else norm))

    def between(self, given: Set[ir.Value], outputs: Sequence[ir.Value], *, x: ir.Value, norm: ir.Node) -> Proof:
        """Run the nodes between the `given` values and the `outputs`; one of them is the norm."""
        nodes = self._nodes_between(given, outputs)
        if nodes is None:
            return Proof(None, "it depends on more nodes than are run")
        return self(nodes, outputs, x=x, norm=norm)

    def _nodes_between(self, given: Set[ir.Value], ends: Sequence[ir.Value]) -> list[ir.Node] | None:
        """Sorted; None: there are too many."""
        nodes: dict[ir.Node, None] = {}
        waiting: list[tuple[ir.Value | None, bool]] = [(end, False) for end in reversed(ends)]
        for _ in range(_MAX_STEPS):
            if not waiting:
                return list(nodes)
            value, is_expanded = waiting.pop()
            node = None if value is None or value in given else value.producer()
            if value is None or node is None or node in nodes or self._constant(value) is not None:
                continue
            if is_expanded:
                nodes[node] = None
                continue
            sources = node.inputs[:1] if is_op(node, "Reshape", "CastLike") else node.inputs
            waiting += [(value, True), *((source, False) for source in sources)]
        return None

    def _run(self, nodes: Sequence[ir.Node], outputs: Sequence[ir.Value], x: ir.Value | None, norm: ir.Node) -> Proof:
        cut = "an input is missing" if x is None else self._cut(nodes, outputs, x, norm)
        if isinstance(cut, str):
            return Proof(None, cut)
        graph, shapes = cut
        key = graph.SerializeToString(deterministic=True)
        if key not in self._proofs:
            n = math.prod(shapes["x"][axis] for axis in _axes(norm, len(shapes["x"])))
            self._proofs[key] = self._prove(graph, shapes, n)
        return self._proofs[key]

    def _prove(self, graph: onnx.GraphProto, shapes: dict[str, tuple[int, ...]], n: int) -> Proof:
        proto = onnx.ModelProto(ir_version=8, graph=graph)
        opset = max(_OPSET, self._facts.model.opset_imports.get("", 0))
        for domain, version in (("", opset), (DOMAIN, 1), (CONTRIB_DOMAIN, 1)):
            proto.opset_import.add(domain=domain, version=version)
        before, after = ir.from_proto(proto), ir.from_proto(proto)
        if not self._rewrite(after).modified:
            return Proof(None, "its shapes are not known well enough to run it alone")
        for model in (before, after):
            attach_functions(model)
        return compare(ir.to_proto(before), ir.to_proto(after), shapes, n)

    def _cut(
        self, nodes: Sequence[ir.Node], outputs: Sequence[ir.Value], x: ir.Value, norm: ir.Node
    ) -> tuple[onnx.GraphProto, dict[str, tuple[int, ...]]] | str:
        facts = self._facts
        made = {value for node in nodes for value in node.outputs}
        names = {value: f"o{number}" for number, value in enumerate(outputs)}
        graph = onnx.GraphProto(name="subgraph")
        shapes: dict[str, tuple[int, ...]] = {}
        sizes: dict[str, int] = {}
        first = facts.likely_shape(x)
        rank = None if first is None else len(first)
        views = {node.inputs[1]: node.outputs[0] for node in nodes if is_op(node, "Reshape")}
        axes = None if rank is None or views else _axes(norm, rank)
        for value in (x, *(value for node in nodes for value in node.inputs)):
            if value is None or value in names:
                continue
            names[value] = f"v{len(names)}" if shapes else "x"
            array = self._given(value, views, sizes)
            if array is not None:
                graph.initializer.append(onnx.numpy_helper.from_array(array, names[value]))
            if array is not None or value in made:
                continue
            shape = None if rank is None else concrete(value, facts, sizes, axes)
            dtype = facts.dtype(value)
            if shape is None or dtype is None:
                return f"the type or the shape of {value.name} is not known"
            shapes[names[value]] = shape
            graph.input.append(onnx.helper.make_tensor_value_info(names[value], int(dtype), shape))
        if any(math.prod(shape) > MAX_ELEMENTS for shape in shapes.values()):
            return "its static shape is too large to be run"
        if rank is None or rank > MAX_RANK or any(not -rank <= axis < 0 for axis in _axes(norm, rank)):
            return f"it cannot be run over its axes on a tensor of rank {rank}"
        graph.node.extend(renamed(node, names) for node in nodes)
        for value in outputs:
            dtype = facts.dtype(value)
            if dtype is None:
                return f"the type of {value.name} is not known"
            graph.output.append(onnx.helper.make_tensor_value_info(names[value], int(dtype), None))
        return graph, shapes

    def _given(
        self, value: ir.Value, views: dict[ir.Value | None, ir.Value], sizes: dict[str, int]
    ) -> NDArray[Any] | None:
        """What `value` is fed in every run: the target of a Reshape, and a constant of one element."""
        if value in views:
            shape = concrete(views[value], self._facts, sizes, None)
            return None if shape is None else np.asarray(shape, np.int64)
        return self._constant(value)

    def _constant(self, value: ir.Value) -> NDArray[Any] | None:
        """The one element that `value` always is."""
        array = constant(value, self._facts)
        return None if array is None or array.size != 1 else array


def _axes(norm: ir.Node, rank: int) -> tuple[int, ...]:
    """Counted from the end."""
    axes = norm.attributes.get("axes")
    return tuple(axis if axis < 0 else axis - rank for axis in ([-1] if axes is None else axes.as_ints()))
