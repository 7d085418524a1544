"""The models of a case for the runtimes that take ONNX: one op of ours, or a norm of others with its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from rms_deploy.benchmark.op.cases import OP_KINDS, OpCase, case_inputs, case_scale, case_shift
from rms_deploy.ops import contract
from rms_deploy.ops.element_types import element_dtype
from rms_deploy.ops.foreign_ops import CONTRIB_DOMAIN

__all__ = ["EPSILON", "case_model", "decomposed_model", "neighbours", "our_model"]

EPSILON: Final = 1e-6

_FLOAT32: Final = contract.ELEMENT_TYPES["float32"]


def case_model(case: OpCase, nodes: Sequence[onnx.NodeProto], scale: NDArray[Any], *, opset: int) -> onnx.ModelProto:
    """The tensors of the case, and the constants that the nodes read: `scale`, and others in its type."""
    kind, inner = contract.ELEMENT_TYPES[case.dtype], contract.ELEMENT_TYPES[scale.dtype.name]
    inputs = [helper.make_tensor_value_info(name, kind, case.shape) for name in case_inputs(case)]
    results = [helper.make_tensor_value_info(name, kind, case.shape) for name in case.outputs]
    shift = case_shift(case, spread=scale.ndim > 1).astype(scale.dtype)
    arrays = {"scale": scale, "shift": shift, "bias": np.zeros_like(scale)}
    constants = [helper.make_tensor(name, inner, a.shape, a.tobytes(), raw=True) for name, a in arrays.items()]
    constants += [helper.make_tensor(name, inner, [], [value]) for name, value in (("two", 2), ("eps", EPSILON))]
    constants.append(helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [case.axis]))
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(list(nodes), "op", inputs, results, [c for c in constants if c.name in read])
    domains = {"": opset, contract.DOMAIN: contract.VERSION, CONTRIB_DOMAIN: 1}
    imports = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def our_model(case: OpCase, *, partial_size: int | None = None, scale_type: int = _FLOAT32) -> onnx.ModelProto:
    """The op of the case; with `partial_size` the partial norm."""
    op = OP_KINDS[case.op] if partial_size is None else contract.PARTIAL_RMS_NORM
    attributes: dict[str, Any] = {"axes": [case.axis], "epsilon": EPSILON, "scale_type": scale_type}
    if partial_size is not None:
        attributes["partial_size"] = partial_size
    inputs = [name for name, _ in op.inputs]
    node = helper.make_node(op.name, inputs, case.outputs, domain=contract.DOMAIN, **attributes)
    return case_model(case, [node], case_scale(case, spread=True), opset=17)


def neighbours(case: OpCase, norm: Callable[[str, str], list[onnx.NodeProto]]) -> list[onnx.NodeProto]:
    """A norm, from the name of what it reads to that of what it gives, and what the case has in front and behind."""
    node = helper.make_node
    gate = [node("Sigmoid", ["Z"], ["sigma"]), node("Mul", ["Z", "sigma"], ["gate"])]
    if case.op == "norm-gate":
        return [*gate, *norm("X", "normed"), node("Mul", ["normed", "gate"], ["Y"])]
    if case.op == "gate-norm":
        return [*gate, node("Mul", ["X", "gate"], ["gated"]), *norm("gated", "Y")]
    if case.op == "norm-shift":
        return [*norm("X", "normed"), node("Add", ["normed", "shift"], ["Y"])]
    if case.normalized_dtype != case.dtype:
        wide = [node("Cast", [name], [f"{name}32"], to=_FLOAT32) for name in case.tensors]
        add = node("Add", ["X32", "R32"], ["Sum32"])
        kind = contract.ELEMENT_TYPES[case.dtype]
        narrow = [node("Cast", [f"{name}32"], [name], to=kind) for name in case.outputs]
        return [*wide, add, *norm("Sum32", "Y32"), *narrow]
    if "R" in case.tensors:
        return [node("Add", ["X", "R"], ["Sum"]), *norm("Sum", "Y")]
    return norm("X", "Y")


def decomposed_model(case: OpCase) -> onnx.ModelProto:
    """The norm in primitives."""

    def norm(x: str, y: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("Pow", [x, "two"], ["square"]),
            helper.make_node("ReduceMean", ["square", "axes"], ["mean"], keepdims=1),
            helper.make_node("Add", ["mean", "eps"], ["shifted"]),
            helper.make_node("Sqrt", ["shifted"], ["rms"]),
            helper.make_node("Div", [x, "rms"], ["quotient"]),
            helper.make_node("Mul", ["quotient", "scale"], [y]),
        ]

    scale = case_scale(case, spread=True).astype(element_dtype(case.normalized_dtype))
    return case_model(case, neighbours(case, norm), scale, opset=18)
