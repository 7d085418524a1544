"""Whether onnx may propagate the data of shape computations: it keeps an object for each element of a vector.

A vector whose length is known costs onnx some hundred bytes an element, whatever it holds. So long inputs and weights
are given to onnx with a symbol for their length, and data are not propagated in a model that makes long vectors of
short ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import numpy as np
import onnx_ir as ir

from rms_deploy.onnx_model.constant_tensor import constant_tensor

__all__ = ["MAX_LENGTH", "may_propagate"]

MAX_LENGTH: Final = 2**16
"""Elements of a vector up to which its length is told to onnx."""

_MAX_MADE: Final = 2**20
"""Elements of a vector that a model makes, beyond which data are not propagated."""

_TARGETS: Final = {"ConstantOfShape": (0,), "Expand": (1,), "Range": (0, 1), "Tile": (1,)}
"""Operators that make as many elements as an input says, and which inputs that are."""

_SAME_LENGTH: Final = ("Abs", "Add", "Cast", "Identity", "Mul", "Neg", "Slice", "Squeeze", "Sub", "Unsqueeze")
_MAX_STEPS: Final = 64


def may_propagate(nodes: Iterable[ir.Node]) -> bool:
    """Whether no vector that `nodes`, sorted, make is long, as far as one sees it without running them."""
    lengths: dict[ir.Value, int] = {}
    for node in nodes:
        if node.op_type == "Concat":
            length = sum(_length(value, lengths) for value in node.inputs)
            lengths[node.outputs[0]] = length
        elif node.op_type in _TARGETS:
            length = max((_asked(node.inputs[i]) for i in _TARGETS[node.op_type] if i < len(node.inputs)), default=1)
        else:
            continue
        if length > _MAX_MADE:
            return False
    return True


def _length(value: ir.Value | None, lengths: dict[ir.Value, int]) -> int:
    """A bound of the elements that Concats before `value` have put together, which may be itself an element."""
    for _ in range(_MAX_STEPS):
        node = None if value is None else value.producer()
        if value is None or value in lengths or node is None or node.op_type not in _SAME_LENGTH or not node.inputs:
            break
        value = node.inputs[0]
    return 1 if value is None else lengths.get(value, 1)


def _asked(value: ir.Value | None) -> int:
    """The product of what a small constant holds; 1 where it is none."""
    tensor = None if value is None else constant_tensor(value)
    if tensor is None or tensor.size > _MAX_STEPS or isinstance(tensor, ir.ExternalTensor):
        return 1
    array = tensor.numpy()
    return math.prod(abs(int(i)) for i in array.reshape(-1)) if np.issubdtype(array.dtype, np.integer) else 1
