"""FoldConstants: what is computed from constants alone, computed once, rounded as the model rounds it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.onnx_model.evaluate import ARITHMETIC, evaluate

__all__ = ["FoldConstants"]

_Array = NDArray[Any]

_FOLDED: Final = ARITHMETIC | {"Cast", "CastLike", "Identity", "Squeeze", "Unsqueeze"}
"""Operators between a weight and the node that reads it, where exporters write them."""

_MAX_SIZE: Final = 2**28
"""Elements of a result: two small constants broadcast to any size."""


class FoldConstants(ir.passes.InPlacePass):
    """Replace arithmetic and casts of constants by their result, in the element types that the model has.

    1. Arithmetic is folded in float types only: integers count and index, and no wider type changes them.
    2. Constants of all sizes are folded, but for results of a size that no weight has.
    3. An output of the graph keeps its node, and with it its name.

    This prepares a comparison in a wider type. One model casts a scale to float16 when it runs, another holds it in
    float16: they have the same numbers only where the first is rounded before the type is widened.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold in place."""
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
    if node.domain != "" or node.op_type not in _FOLDED:
        return None
    inputs = [_constant(value) for value in node.inputs]
    first = inputs[0] if inputs else None
    if first is None or any(array is None for array in inputs):
        return None
    if node.op_type in ARITHMETIC and (np.issubdtype(first.dtype, np.integer) or first.dtype == np.bool_):
        return None
    return evaluate(node, inputs, max_size=_MAX_SIZE)


def _constant(value: ir.Value | None) -> _Array | None:
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None or tensor.dtype == ir.DataType.STRING else tensor.numpy()
