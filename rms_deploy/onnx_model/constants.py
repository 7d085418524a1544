"""Constants: initialisers, Constant nodes, and what is computed from them or from static shapes.

Only small tensors are evaluated, and no weight is ever loaded for it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.evaluate import OPERATORS, evaluate

__all__ = ["constant", "integers", "scalar", "why_not_scalar"]

_MAX_SIZE = 64
_MAX_DEPTH = 1000
_MAX_RANK = 32
"""Axes that numpy has in all versions."""

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


def constant(value: ir.Value, facts: Facts) -> _Array | None:
    """The elements of `value` if there are few and they are the same in every run, else None.

    Each value is looked at once in a model, after those that it is computed from.
    """
    known, waiting = facts.constants, [value]
    while waiting:
        current = waiting[-1]
        if current not in known:
            varying = next((source for source in _sources(current) if known.get(source) is None), None)
            if varying is not None and varying not in known and len(waiting) < _MAX_DEPTH:
                waiting.append(varying)
                continue
            known[current] = _evaluated(current, facts) if varying is None else None
        waiting.pop()
    return known[value]


def _sources(value: ir.Value) -> list[ir.Value]:
    """What must be constant for `value` to be: some inputs of its node, if it is one of those that are computed."""
    node = value.producer()
    if node is None or node.domain != "" or node.op_type not in OPERATORS:
        return []
    needed = node.inputs[:1] if node.op_type == "CastLike" else node.inputs
    return [source for source in needed if source is not None]


def _evaluated(value: ir.Value, facts: Facts) -> _Array | None:
    """The elements of `value`, where those of its sources are known."""
    if facts.is_overridable(value):
        return None
    node = value.producer()
    if node is None or is_op(node, "Constant"):
        return _elements(_tensor(value))
    if node.domain != "" or value.index() != 0:
        return None
    if node.op_type in ("Shape", "Size"):
        return _of_shape(node, facts)
    if node.op_type not in OPERATORS:
        return None
    like = node.op_type == "CastLike"
    needed = node.inputs[:1] if like else node.inputs
    inputs = [None if source is None else facts.constants[source] for source in needed]
    return evaluate(node, inputs, to=facts.cast_type(node) if like else None, max_size=_MAX_SIZE)


def _elements(tensor: ir.TensorProtocol | None) -> _Array | None:
    if tensor is None or tensor.size > _MAX_SIZE or len(tensor.shape) > _MAX_RANK:
        return None
    if isinstance(tensor, ir.ExternalTensor) and not (tensor.base_dir or Path(tensor.location).is_absolute()):
        return None  # nobody said beside which file
    return tensor.numpy()


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
    if source is None or any(attribute.is_ref() for attribute in node.attributes.values()):
        return None
    if node.op_type == "Size" and is_op(source.producer(), "Shape"):
        of = source.producer()
        rank = None if of is None or of.attributes or of.inputs[0] is None else facts.rank(of.inputs[0])
        return None if rank is None else np.asarray(rank, np.int64)
    shape = facts.shape(source)
    if shape is None or not all(isinstance(dim, int) for dim in shape) or len(shape) > _MAX_SIZE:
        return None
    dims = [dim for dim in shape if isinstance(dim, int)]
    if node.op_type == "Shape":
        start, end = (node.attributes.get_int(name, default) for name, default in (("start", 0), ("end", len(dims))))
        return np.asarray(dims[start:end], np.int64)
    size = math.prod(dims)
    return np.asarray(size, np.int64) if size < 2**63 else None
