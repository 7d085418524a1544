"""Constants: initialisers, Constant nodes, and what is computed from them or from static shapes.

Only small tensors are evaluated, and no weight is ever loaded for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.evaluate import OPERATORS, evaluate

__all__ = ["constant", "integers", "scalar", "why_not_scalar"]

_MAX_SIZE = 64
_MAX_DEPTH = 12

_Array = NDArray[Any]


def scalar(value: ir.Value | None, facts: Facts, *, beside: ir.Value | None = None) -> float | None:
    """The number that `value` always is, or None.

    Args:
        value: one element, of any float or integer type, decoded exactly.
        facts: of the model.
        beside: the other operand of the node: a constant of higher rank would make the result's rank grow.
    """
    array = None if value is None else constant(value, facts)
    if (array is None or array.size != 1) and value is not None and beside is not None:
        array = _spread(value, facts, beside)
        beside = None
    if array is None or array.size != 1 or array.dtype.kind == "b":
        return None
    if beside is not None:
        rank = facts.rank(beside)
        if array.ndim > (1 if rank is None else max(rank, 1)):
            return None
    return float(array.reshape(()).astype(np.float64))


def _spread(value: ir.Value, facts: Facts, over: ir.Value) -> _Array | None:
    """The one element that `value` repeats in every place of the shape of `over`; None where it is not that."""
    node = facts.origin(value).producer()
    if node is None or not is_op(node, "Expand", "ConstantOfShape") or not facts.is_expanded_to(node, over):
        return None
    if node.op_type == "Expand":
        return None if node.inputs[0] is None else constant(node.inputs[0], facts)
    attribute = node.attributes.get("value")
    if attribute is None or attribute.is_ref():
        return np.zeros(1, np.float32) if attribute is None else None
    return attribute.as_tensor().numpy()


def why_not_scalar(value: ir.Value | None, facts: Facts) -> str:
    """The rest of a sentence about a value for which `scalar` gave None."""
    if value is None:
        return "is missing"
    if facts.is_overridable(value):
        return f"is an initialiser that a caller may override ({value.name} is a graph input too)"
    if value.is_graph_input():
        return f"is a graph input ({value.name})"
    shape = facts.shape(value)
    node = value.producer()
    if constant(value, facts) is not None or node is None or is_op(node, "Constant"):
        return f"is no scalar: it has the shape {list(shape or ())}"
    return f"is not constant ({value.name} is computed at run time)"


def integers(value: ir.Value | None, facts: Facts) -> tuple[int, ...] | None:
    """A constant list of integers, such as axes; a scalar is a list of one."""
    array = None if value is None else constant(value, facts)
    if array is None or array.dtype.kind not in "iu":
        return None
    return tuple(int(i) for i in array.reshape(-1))


def constant(value: ir.Value, facts: Facts, depth: int = 0) -> _Array | None:
    """The elements of `value` if there are few and they are the same in every run, else None."""
    if facts.is_overridable(value):
        return None
    node = value.producer()
    if node is None or is_op(node, "Constant"):
        tensor = _tensor(value)
        return tensor.numpy() if tensor is not None and tensor.size <= _MAX_SIZE else None
    if node.domain != "" or depth > _MAX_DEPTH or value.index() != 0:
        return None
    if node.op_type in ("Shape", "Size"):
        return _of_shape(node, facts)
    if node.op_type not in OPERATORS:
        return None
    like = node.op_type == "CastLike"
    needed = node.inputs[:1] if like else node.inputs
    inputs = [None if v is None else constant(v, facts, depth + 1) for v in needed]
    if any(array is None and v is not None for array, v in zip(inputs, needed, strict=True)):
        return None
    return evaluate(node, inputs, to=facts.cast_type(node) if like else None, max_size=_MAX_SIZE)


def _tensor(value: ir.Value) -> ir.TensorProtocol | None:
    """The tensor behind an initialiser or a Constant node. (onnx-ir's `get_const_tensor` renames what it returns.)"""
    node = value.producer()
    if node is None:
        tensor = value.const_value
        return None if tensor is None or tensor.dtype == ir.DataType.STRING else tensor
    attribute = next(iter(node.attributes.values()), None)
    if attribute is None or attribute.is_ref():
        return None
    if attribute.type == ir.AttributeType.TENSOR:
        return attribute.as_tensor()
    kind = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if attribute.name not in kind:
        return None
    return ir.tensor(np.asarray(attribute.value, kind[attribute.name]))


def _of_shape(node: ir.Node, facts: Facts) -> _Array | None:
    source = node.inputs[0]
    if source is None or node.attributes:  # Shape with start or end
        return None
    if node.op_type == "Size" and is_op(source.producer(), "Shape"):
        of = source.producer()
        rank = None if of is None or of.attributes or of.inputs[0] is None else facts.rank(of.inputs[0])
        return None if rank is None else np.asarray(rank, np.int64)
    shape = facts.shape(source)
    if shape is None or not all(isinstance(dim, int) for dim in shape):
        return None
    dims = np.asarray(shape, np.int64)
    return dims if node.op_type == "Shape" else np.asarray(dims.prod(dtype=np.int64))
