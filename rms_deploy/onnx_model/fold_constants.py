"""FoldConstants: what is computed from constants alone, computed once, rounded as the model rounds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

__all__ = ["FoldConstants"]

_Array = NDArray[Any]


class FoldConstants(ir.passes.InPlacePass):
    """Replace arithmetic and casts of constants by their result, in the element types that the model has.

    For a comparison in a wider type: a scale that one model casts to float16 when it runs, and another holds in
    float16, are the same numbers only where the first is rounded before the type is widened.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in list(model.graph.all_nodes()):
            array = _result(node)
            if array is not None and node.graph is not None and not node.outputs[0].is_graph_output():
                old = node.outputs[0]
                new = ir.node("Constant", [], attributes={"value": ir.tensor(array)}, name=node.name)
                new.outputs[0].name = old.name
                ir.convenience.replace_nodes_and_values(node.graph, node, [node], [new], [old], [new.outputs[0]])
                modified = True
        return ir.passes.PassResult(model, modified)


def _result(node: ir.Node) -> _Array | None:
    compute = _OPS.get(node.op_type) if node.domain == "" else None
    if compute is None:
        return None
    inputs = [_constant(value) for value in node.inputs]
    if not inputs or any(array is None for array in inputs):
        return None
    try:
        with np.errstate(all="ignore"):
            return compute(node, *inputs)
    except (TypeError, ValueError):  # malformed: the runtime says so
        return None


def _constant(value: ir.Value | None) -> _Array | None:
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None or tensor.dtype == ir.DataType.STRING else tensor.numpy()


def _elementwise(function: Callable[..., Any]) -> Callable[..., _Array | None]:
    """A float `function` of numbers of one type, rounded to that type."""

    def compute(node: ir.Node, *inputs: _Array) -> _Array | None:  # noqa: ARG001 - one signature for all
        kind = inputs[0].dtype
        if np.issubdtype(kind, np.integer) or kind == np.bool_:
            return None
        return np.asarray(function(*inputs)).astype(kind)

    return compute


def _cast(node: ir.Node, array: _Array) -> _Array:
    return array.astype(ir.DataType(node.attributes.get_int("to", 0)).numpy())


def _unsqueeze(node: ir.Node, array: _Array, axes: _Array | None = None) -> _Array:
    return np.expand_dims(array, _axes(node, axes))


def _squeeze(node: ir.Node, array: _Array, axes: _Array | None = None) -> _Array:
    return np.squeeze(array, _axes(node, axes))


def _axes(node: ir.Node, axes: _Array | None) -> tuple[int, ...]:
    return tuple(int(i) for i in (node.attributes.get_ints("axes", ()) if axes is None else axes.ravel()))


_ARITHMETIC: Final[dict[str, Callable[..., Any]]] = {
    "Add": np.add,
    "Div": np.divide,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Pow": np.power,
    "Reciprocal": lambda a: 1 / a,
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
}

_OPS: Final[dict[str, Callable[..., _Array | None]]] = {
    "Cast": _cast,
    "CastLike": lambda node, array, like: array.astype(like.dtype),  # noqa: ARG005
    "Identity": lambda node, array: array,  # noqa: ARG005
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    **{name: _elementwise(function) for name, function in _ARITHMETIC.items()},
}
