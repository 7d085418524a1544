"""Operators of ONNX that stand for some of ONNX Runtime's in shape inference: they give the same types and shapes.

1. What has the type and shape of its first input, such as a norm, alone or with the sum before it.
2. Products of matrices: with a transposition or a bias, of quantised and of packed weights.
3. Attention: the batch and the length of the query, and the width of the value.
4. What is quantised, or gathered from quantised blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import onnx
import onnx.helper
import onnx_ir as ir

from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.foreign_ops import CONTRIB_DOMAIN, foreign_norm
from rms_deploy.ops.forms import NormForm
from rms_deploy.ops.nodes import given_inputs

__all__ = ["put_norm_in", "stand_in"]


def stand_in(node: ir.Node, graph: onnx.GraphProto) -> bool:
    """Add operators that onnx knows, of the same types and shapes, in the place of one of ONNX Runtime's."""
    if not node.inputs or node.inputs[0] is None or not node.outputs or not node.outputs[0].name:
        return False
    make = _MAKERS.get(node.op_type) if node.domain == CONTRIB_DOMAIN else None
    return make is not None and make(_Call(node, graph))


def put_norm_in(node: onnx.NodeProto) -> None:
    """Make a norm of ONNX Runtime's an operator that onnx knows, of the same types and shapes."""
    norm = foreign_norm(node)
    if norm is None or norm.form is not NormForm.ONNXRUNTIME or not any(node.input[:1]) or not any(node.output[:1]):
        return
    x, y, sums = node.input[0], node.output[0], node.output[3:4] if norm.adds_residual else []
    if any(sums):
        made = onnx.helper.make_node("AddRMSNorm", [x, x, x], [y, *sums], domain=DOMAIN)
    else:
        made = onnx.helper.make_node("Identity", [x], [y])
    node.CopyFrom(made)


@dataclass(frozen=True)
class _Call:
    """A node of ONNX Runtime's, and the graph in which others stand for it."""

    node: ir.Node
    graph: onnx.GraphProto

    def add(self, op_type: str, *inputs: str, output: str = "", **attributes: Any) -> bool:
        """An operator that gives the first output, or one that another of these reads."""
        output = output or self.node.outputs[0].name or ""
        self.graph.node.append(onnx.helper.make_node(op_type, inputs, [output], **attributes))
        return True

    def value(self, index: int) -> ir.Value | None:
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def name(self, index: int) -> str:
        """Of an input; empty: it is left out."""
        value = self.value(index)
        return "" if value is None else value.name or ""

    def new_name(self, what: str) -> str:
        return f"{self.node.outputs[0].name}/{what}"

    def shape(self, index: int) -> tuple[int, ...] | None:
        """Of an input that is an initialiser."""
        value = self.value(index)
        tensor = None if value is None or value.is_graph_input() else value.const_value
        return None if tensor is None else tuple(int(size) for size in tensor.shape.numpy())

    def dtype(self, *indices: int) -> ir.DataType | None:
        """Of the first of these inputs of which it is known."""
        values = [value for value in map(self.value, indices) if value is not None]
        tensors = [value.const_value for value in values if value.const_value is not None]
        known = [*(value.dtype for value in values), *(tensor.dtype for tensor in tensors)]
        return next((dtype for dtype in known if dtype is not None), None)

    def integer(self, name: str, default: int = 0) -> int | None:
        """An attribute; None: it is a parameter of the function around it."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else None if attribute.is_ref() else attribute.as_int()

    def invented(self, dtype: ir.DataType, shape: tuple[int | None, ...]) -> str:
        """A new input of a type and shape."""
        name = self.new_name("weight")
        self.graph.input.append(onnx.helper.make_tensor_value_info(name, int(dtype), shape))
        return name


def _like_first(call: _Call) -> bool:
    return call.add("Identity", call.name(0))


def _product(call: _Call) -> bool:
    """GemmFastGelu: MatMul and a bias"""
    return bool(call.name(1)) and call.add("MatMul", call.name(0), call.name(1))


def _packed_product(call: _Call) -> bool:
    """MatMulNBits, MatMulBnb4: the weights have K rows and N columns"""
    k, n, dtype = call.integer("K"), call.integer("N"), call.dtype(2, 0)
    return bool(k and n and dtype) and call.add(
        "MatMul", call.name(0), call.invented(dtype or ir.DataType.FLOAT, (k, n))
    )


def _fused_product(call: _Call) -> bool:
    """FusedMatMul, TransposeMatMul: MatMul, each operand with its last two axes the other way round or not"""
    flags = [call.integer(name) for name in ("transA", "transB", "transBatchA", "transBatchB")]
    a, b, shape = call.name(0), call.name(1), call.shape(1)
    if not b or None in flags or any(flags[2:]):
        return False
    if not flags[0] and not flags[1]:
        return call.add("MatMul", a, b)
    if not flags[0] and shape is not None and len(shape) == 2:
        turned = call.new_name("turned")
        call.add("Transpose", b, output=turned, perm=[1, 0])
        return call.add("MatMul", a, turned)
    left, right = "...ji" if flags[0] else "...ij", "...kj" if flags[1] else "...jk"
    return call.add("Einsum", a, b, equation=f"{left},{right}->...ik")


def _dynamic_product(call: _Call) -> bool:
    """DynamicQuantizeMatMul(a, b quantised, scale of b)"""
    shape, dtype = call.shape(1), call.dtype(2, 0)
    return shape is not None and dtype is not None and call.add("MatMul", call.name(0), call.invented(dtype, shape))


def _integer_product(call: _Call) -> bool:
    """MatMulIntegerToFloat(a quantised, b quantised, scale of a, scale of b)"""
    shape, dtype, wide = call.shape(1), call.dtype(2, 3), call.new_name("wide")
    if shape is None or dtype is None:
        return False
    call.add("Cast", call.name(0), output=wide, to=int(dtype))
    return call.add("MatMul", wide, call.invented(dtype, shape))


def _attention_of_three(call: _Call) -> bool:
    """MultiHeadAttention(query, key, value): [batch, length of the query, width of the value]"""
    if not call.name(1) or not call.name(2):
        return False
    if call.value(0) is call.value(2):
        return _like_first(call)
    return call.add("Einsum", call.name(0), call.name(2), equation="abc,def->abf")


def _grouped_attention(call: _Call) -> bool:
    """GroupQueryAttention, SparseAttention: the shape of the query, without what is packed behind it"""
    if call.name(1):
        return _like_first(call)
    dtype = call.dtype(0, 3)
    return dtype is not None and call.add("Einsum", call.name(0), call.invented(dtype, (None,)), equation="abc,d->abd")


def _attention(call: _Call) -> bool:
    """Attention(input, weights [width, 3 * width], bias); the sizes of the three may differ"""
    sizes, shape, dtype = call.node.attributes.get("qkv_hidden_sizes"), call.shape(1), call.dtype(1, 0)
    if shape is None or len(shape) != 2 or dtype is None or (sizes is not None and sizes.is_ref()):
        return False
    width = shape[1] // 3 if sizes is None else tuple(sizes.as_ints())[-1]
    return call.add("MatMul", call.name(0), call.invented(dtype, (shape[0], width)))


def _gathered_blocks(call: _Call) -> bool:
    """GatherBlockQuantized(data, indices, scales): a byte holds several elements of the last axis"""
    shape, dtype, bits, axis = call.shape(0), call.dtype(2), call.integer("bits", 4), call.integer("gather_axis")
    if shape is None or dtype is None or not bits or axis is None or not call.name(1):
        return False
    if call.dtype(0) == ir.DataType.UINT8:
        shape = (*shape[:-1], shape[-1] * (8 // bits))
    return call.add("Gather", call.invented(dtype, shape), call.name(1), axis=axis)


def _quantized(call: _Call) -> bool:
    dtype = call.dtype(2) if len(given_inputs(call.node)) > 2 else ir.DataType.UINT8
    return dtype is not None and call.add("Cast", call.name(0), to=int(dtype))


def _dequantized(call: _Call) -> bool:
    dtype = call.dtype(1)
    return dtype is not None and call.add("Cast", call.name(0), to=int(dtype))


_MAKERS: Final[dict[str, Callable[[_Call], bool]]] = {
    **dict.fromkeys(("BiasGelu", "BiasSoftmax", "FastGelu", "Gelu", "GroupNorm", "QuickGelu"), _like_first),
    **dict.fromkeys(("LongformerAttention", "MoE", "QMoE", "RotaryEmbedding"), _like_first),
    **dict.fromkeys(("QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax"), _like_first),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4"), _packed_product),
    **dict.fromkeys(("FusedMatMul", "TransposeMatMul"), _fused_product),
    **dict.fromkeys(("MultiHeadAttention", "DecoderMaskedMultiHeadAttention"), _attention_of_three),
    **dict.fromkeys(("GroupQueryAttention", "SparseAttention"), _grouped_attention),
    "Attention": _attention,
    "DequantizeLinear": _dequantized,
    "DynamicQuantizeMatMul": _dynamic_product,
    "GatherBlockQuantized": _gathered_blocks,
    "GemmFastGelu": _product,
    "MatMulIntegerToFloat": _integer_product,
    "QuantizeLinear": _quantized,
}
