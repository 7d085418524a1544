"""Operators of ONNX that stand for some of ONNX Runtime's in shape inference: they give the same types and shapes."""

from __future__ import annotations

import onnx
import onnx.helper
import onnx_ir as ir

from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.foreign_ops import CONTRIB_DOMAIN, SIMPLIFIED_LAYER_NORMALIZATION, foreign_norm

__all__ = ["stand_in"]

_LIKE_FIRST = (SIMPLIFIED_LAYER_NORMALIZATION.op_type, "FastGelu", "Gelu", "QuickGelu", "BiasGelu", "RotaryEmbedding")
"""Operators of ONNX Runtime whose first output has the type and shape of their first input."""


def stand_in(node: ir.Node, graph: onnx.GraphProto) -> bool:
    """Add an operator that onnx knows, of the same types and shapes, in the place of one of ONNX Runtime's."""
    if not node.inputs or node.inputs[0] is None:
        return False
    norm = foreign_norm(node)
    names, x = [value.name or "" for value in node.outputs], node.inputs[0].name or ""
    if norm is not None and norm.adds_residual:
        outputs = [name if name else f"{names[0]}/sum" for name in (names[0], *names[3:4])]
        if len(outputs) == 1 or len(node.inputs) < 3 or node.inputs[1] is None or node.inputs[2] is None:
            graph.node.add(op_type="Identity", input=[x], output=names[:1])
        else:
            graph.node.add(op_type="AddRMSNorm", domain=DOMAIN, input=[x, x, x], output=outputs)
        return True
    if node.op_type in _LIKE_FIRST and (node.domain == CONTRIB_DOMAIN or norm is not None):
        graph.node.add(op_type="Identity", input=[x], output=names[:1])
        return True
    if node.op_type == "MatMulNBits" and node.domain == CONTRIB_DOMAIN and len(node.inputs) > 2:
        k, n = (node.attributes.get(name) for name in "KN")
        scales = node.inputs[2]
        dtype = scales and (scales.dtype or (scales.const_value and scales.const_value.dtype))
        if k is None or n is None or k.is_ref() or n.is_ref() or not dtype:
            return False
        weight = f"{names[0]}/weight"
        dims = (k.as_int(), n.as_int())
        graph.input.append(onnx.helper.make_tensor_value_info(weight, int(dtype), dims))
        graph.node.add(op_type="MatMul", input=[x, weight], output=names[:1])
        return True
    return False
