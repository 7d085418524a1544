"""The tensor of a value that is an initialiser, or what a Constant gives."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

__all__ = ["constant_tensor"]


def constant_tensor(value: ir.Value) -> ir.TensorProtocol | None:
    """What an initialiser or a Constant of ONNX holds; None: it is neither, or holds text or a sparse tensor."""
    node = value.producer()
    if node is None or node.op_type != "Constant" or node.domain:
        return value.const_value if node is None else None
    attribute = next(iter(node.attributes.values()), None)
    if attribute is None or attribute.is_ref():
        return None
    if attribute.type == ir.AttributeType.TENSOR:
        tensor: ir.TensorProtocol = attribute.value  # as_tensor() looks at all methods of a protocol
        return tensor
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    return ir.tensor(np.asarray(attribute.value, kinds[attribute.name])) if attribute.name in kinds else None
