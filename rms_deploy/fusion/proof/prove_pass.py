"""A few nodes cut out of their model, and run before and after a pass has rewritten them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx
import onnx.helper
import onnx_ir as ir

from rms_deploy.fusion.proof.prove import Proof, compare, proven
from rms_deploy.fusion.proof.subgraph import MAX_ELEMENTS, MAX_RANK, concrete, renamed
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.foreign_ops import CONTRIB_DOMAIN
from rms_deploy.ops.functions import attach_functions

__all__ = ["PassProver"]

_OPSET = 18
"""Any that has bfloat16 will do: of ONNX's own ops there is only Add."""


class PassProver:
    """Runs nodes, each kind once, as a model of their own, and that model as a pass rewrites it."""

    def __init__(self, rewrite: ir.passes.InPlacePass, facts: Facts) -> None:
        self._rewrite = rewrite
        self._facts = facts
        self._proofs: dict[bytes, Proof] = {}

    def __call__(self, nodes: Sequence[ir.Node], outputs: Sequence[ir.Value]) -> Proof:
        """Run `nodes`, sorted, of which the last is a norm; the first of `outputs` is that of the norm."""
        return proven(lambda: self._run(nodes, outputs))

    def _run(self, nodes: Sequence[ir.Node], outputs: Sequence[ir.Value]) -> Proof:
        cut = self._cut(nodes, outputs)
        if isinstance(cut, str):
            return Proof(None, cut)
        graph, shapes = cut
        key = graph.SerializeToString(deterministic=True)
        if key not in self._proofs:
            n = math.prod(shapes["x"][axis] for axis in _axes(nodes[-1], len(shapes["x"])))
            self._proofs[key] = self._prove(graph, shapes, n)
        return self._proofs[key]

    def _prove(self, graph: onnx.GraphProto, shapes: dict[str, tuple[int, ...]], n: int) -> Proof:
        proto = onnx.ModelProto(ir_version=8, graph=graph)
        for domain, version in (("", _OPSET), (DOMAIN, 1), (CONTRIB_DOMAIN, 1)):
            proto.opset_import.add(domain=domain, version=version)
        before, after = ir.from_proto(proto), ir.from_proto(proto)
        if not self._rewrite(after).modified:
            return Proof(None, "its shapes are not known well enough to run it alone")
        for model in (before, after):
            attach_functions(model)
        return compare(ir.to_proto(before), ir.to_proto(after), shapes, n)

    def _cut(
        self, nodes: Sequence[ir.Node], outputs: Sequence[ir.Value]
    ) -> tuple[onnx.GraphProto, dict[str, tuple[int, ...]]] | str:
        facts = self._facts
        names = {value: f"o{number}" for number, value in enumerate(outputs)}
        graph = onnx.GraphProto(name="subgraph")
        shapes: dict[str, tuple[int, ...]] = {}
        sizes: dict[str, int] = {}
        first = None if nodes[0].inputs[0] is None else facts.likely_shape(nodes[0].inputs[0])
        rank = None if first is None else len(first)
        for value in (value for node in nodes for value in node.inputs):
            if value is None or value in names:
                continue
            shape = None if rank is None else concrete(value, facts, sizes, _axes(nodes[-1], rank))
            dtype = facts.dtype(value)
            if shape is None or dtype is None:
                return f"the type or the shape of {value.name} is not known"
            names[value] = f"v{len(shapes)}" if shapes else "x"
            shapes[names[value]] = shape
            graph.input.append(onnx.helper.make_tensor_value_info(names[value], int(dtype), shape))
        if any(math.prod(shape) > MAX_ELEMENTS for shape in shapes.values()):
            return "its static shape is too large to be run"
        if rank is None or rank > MAX_RANK or any(not -rank <= axis < 0 for axis in _axes(nodes[-1], rank)):
            return f"it cannot be run over its axes on a tensor of rank {rank}"
        graph.node.extend(renamed(node, names) for node in nodes)
        for value in outputs:
            graph.output.add(name=names[value], type=graph.input[0].type).type.tensor_type.ClearField("shape")
        return graph, shapes


def _axes(norm: ir.Node, rank: int) -> tuple[int, ...]:
    """Counted from the end."""
    axes = norm.attributes.get("axes")
    return tuple(axis if axis < 0 else axis - rank for axis in ([-1] if axes is None else axes.as_ints()))
