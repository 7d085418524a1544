"""Upcast: the same model in a wider float type."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

import numpy as np
import onnx_ir as ir

from rms_deploy.onnx_model.analysis import is_op
from rms_deploy.onnx_model.inline_functions import inline_functions
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.functions import attach_functions
from rms_deploy.ops.nodes import norm_nodes

__all__ = ["Upcast"]

_NARROWER: Final = {
    ir.DataType.FLOAT: (ir.DataType.FLOAT16, ir.DataType.BFLOAT16),
    ir.DataType.DOUBLE: (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.FLOAT),
}
_TYPE_ATTRIBUTES: Final = ("to", "dtype")
"""Attributes of ONNX ops that hold an element type: of Cast, and of the ops that make a tensor from nothing."""


class Upcast(ir.passes.InPlacePass):
    """Turn every float tensor of a model that is narrower than `to` into `to`, so that nothing is rounded to less.

    1. Calls of model-local functions are inlined, so that no type hides in a function's attributes. Where `to` is
       float32, our own ops stay nodes: the contract has them in float32, but not in float64.
    2. Inputs, outputs, intermediate values and initializers of a narrower type get type `to`. The caller feeds that.
    3. Tensors in attributes (Constant, ConstantOfShape) are converted; Constant's `value_float` and `value_floats`, and
       the zero of a ConstantOfShape without `value`, are float32 by definition, and tensors where `to` is float64.
    4. Casts to a narrower type cast to `to`.
    5. Our ops that scaled in a narrower type scale in float32, and their bodies are written anew.

    Numbers keep their value: each float16, bfloat16 and float32 is a float64 too.

    Args:
        to: FLOAT or DOUBLE.
    """

    def __init__(self, to: ir.DataType) -> None:
        super().__init__()
        self._to = to
        self._narrower = _NARROWER[to]

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        keeps_ours = self._to == ir.DataType.FLOAT
        modified = inline_functions(model, lambda f: not keeps_ours or f.domain != DOMAIN)  # case 1
        for value in _values(model):
            modified |= self._convert_value(value)
        for node in model.graph.all_nodes():
            modified |= self._convert_node(node)
        if modified and any(True for _ in norm_nodes(model)):
            attach_functions(model)
        return ir.passes.PassResult(model, modified)

    def _convert_value(self, value: ir.Value) -> bool:
        """Case 2."""
        if value.dtype not in self._narrower:
            return False
        value.type = copy.deepcopy(value.type)  # a copied model shares it with the original
        value.dtype = self._to
        if value.const_value is not None:
            value.const_value = self._convert_tensor(value.const_value)
        return True

    def _convert_tensor(self, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if tensor.dtype not in self._narrower:
            return tensor
        # Lazy, so that a large model is not in memory twice.
        make = partial(_converted, tensor, self._to)
        return ir.LazyTensor(make, dtype=self._to, shape=ir.Shape(tensor.shape.numpy()), name=tensor.name)

    def _convert_node(self, node: ir.Node) -> bool:
        """Cases 3 to 5."""
        before = dict(node.attributes)
        if node.domain == DOMAIN and "scale_type" in node.attributes:
            node.attributes["scale_type"] = ir.AttrInt64("scale_type", ir.DataType.FLOAT)
        for name, attribute in before.items():
            if attribute.type == ir.AttributeType.TENSOR and attribute.value.dtype in self._narrower:
                node.attributes[name] = ir.AttrTensor(name, self._convert_tensor(attribute.value))
            elif name in _TYPE_ATTRIBUTES and node.domain == "" and attribute.value in self._narrower:
                node.attributes[name] = ir.AttrInt64(name, self._to)
            elif name in ("value_float", "value_floats") and self._to == ir.DataType.DOUBLE:
                del node.attributes[name]
                node.attributes["value"] = ir.AttrTensor("value", _float32_constant(attribute.value))
        if is_op(node, "ConstantOfShape") and "value" not in before and self._to == ir.DataType.DOUBLE:
            node.attributes["value"] = ir.AttrTensor("value", _float32_constant([0.0]))
        return dict(node.attributes) != before


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.inputs
        yield from graph.initializers.values()
        for node in graph:
            yield from node.outputs


def _converted(tensor: ir.TensorProtocol, to: ir.DataType) -> ir.TensorProtocol:
    return ir.Tensor(tensor.numpy().astype(to.numpy()), name=tensor.name)


def _float32_constant(value: float | Sequence[float]) -> ir.TensorProtocol:
    """What `value` is once it is written to a file as float32, as float64."""
    return ir.tensor(np.asarray(value, np.float32).astype(np.float64))
