"""The output of an operator of ONNX for inputs that are constants, computed by numpy."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

__all__ = ["ARITHMETIC", "OPERATORS", "evaluate"]

_Array = NDArray[Any]

_MALFORMED: Final = (TypeError, ValueError, IndexError, ZeroDivisionError, KeyError, OverflowError)
"""What numpy raises for a node that breaks the rules of its operator; the checker and the runtimes report it."""


def evaluate(
    node: ir.Node, inputs: Sequence[_Array | None], *, to: ir.DataType | None = None, max_size: float = math.inf
) -> _Array | None:
    """The output of `node` for `inputs`, in the element type that the operator gives it, rounded to it once.

    Args:
        node: one of `OPERATORS`, of the ONNX domain.
        inputs: in the order of the operator; None for an optional input that is left out.
        to: what a CastLike casts to, where its second input is not given.
        max_size: elements of the output beyond which it is not computed.

    Returns:
        The output, or None: it is larger than `max_size`, or the node breaks the rules of its operator.
    """
    call = _Call(node, inputs, to, max_size)
    try:
        with np.errstate(all="ignore"):
            if node.op_type in _ARITHMETIC:
                if math.prod(np.broadcast_shapes(*(array.shape for array in inputs if array is not None))) > max_size:
                    return None
                array = np.asarray(_ARITHMETIC[node.op_type](*inputs)).astype(call.first.dtype)
            else:
                array = np.asarray(_OTHERS[node.op_type](call))
    except _MALFORMED:
        return None
    return array if array.size <= max_size else None


@dataclass(frozen=True)
class _Call:
    """One node and what it is computed from."""

    node: ir.Node
    inputs: Sequence[Any]
    to: ir.DataType | None
    max_size: float

    @property
    def first(self) -> Any:
        return self.inputs[0]

    @property
    def axis(self) -> int:
        attribute = self.node.attributes.get("axis")
        return 0 if attribute is None else attribute.as_int()

    @property
    def has_axes(self) -> bool:
        return (len(self.inputs) > 1 and self.inputs[1] is not None) or "axes" in self.node.attributes

    @property
    def axes(self) -> tuple[int, ...]:
        if len(self.inputs) > 1 and self.inputs[1] is not None:
            return tuple(int(axis) for axis in self.inputs[1].reshape(-1))
        return tuple(self.node.attributes["axes"].as_ints())


def _divide(a: _Array, b: _Array) -> Any:
    """ONNX's Div: integers are truncated towards zero."""
    return np.trunc(a / b) if a.dtype.kind in "iu" else a / b


def _cast(call: _Call) -> Any:
    return call.first.astype(ir.DataType(call.node.attributes["to"].as_int()).numpy())


def _cast_like(call: _Call) -> Any:
    if len(call.inputs) > 1:
        return call.first.astype(call.inputs[1].dtype)
    if call.to is None:
        raise ValueError("unknown type")
    return call.first.astype(call.to.numpy())


def _expand(call: _Call) -> Any:
    array, target = call.inputs
    shape = np.broadcast_shapes(array.shape, tuple(target))
    if math.prod(shape) > call.max_size:
        raise ValueError("too large to be computed")
    return np.broadcast_to(array, shape).copy()


def _slice(call: _Call) -> Any:
    array, starts, ends, *more = call.inputs
    axes = range(len(starts)) if not more or more[0] is None else more[0].tolist()
    steps = [1] * len(starts) if len(more) < 2 or more[1] is None else more[1].tolist()
    index = [slice(None)] * array.ndim
    for axis, start, end, step in zip(axes, starts.tolist(), ends.tolist(), steps, strict=True):
        index[axis] = slice(start, end, step)
    return array[tuple(index)]


def _range(call: _Call) -> Any:
    start, limit, delta = (value.item() for value in call.inputs)
    if (limit - start) / delta > call.max_size:
        raise ValueError("too large to be computed")
    return np.arange(start, limit, delta).astype(call.first.dtype)


_ARITHMETIC: Final[dict[str, Callable[..., Any]]] = {
    "Add": np.add,
    "Div": _divide,
    "Max": lambda *arrays: functools.reduce(np.maximum, arrays),
    "Min": lambda *arrays: functools.reduce(np.minimum, arrays),
    "Mul": np.multiply,
    "Neg": np.negative,
    "Pow": np.power,
    "Reciprocal": lambda a: 1 / a,
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
}
"""Functions of the inputs, element by element. The output has the type of the first input."""

_OTHERS: Final[dict[str, Callable[[_Call], Any]]] = {
    "Cast": _cast,
    "CastLike": _cast_like,
    "Concat": lambda call: np.concatenate(call.inputs, axis=call.axis),
    "Expand": _expand,
    "Gather": lambda call: np.take(call.first, call.inputs[1], axis=call.axis),
    "Identity": lambda call: call.first,
    "Mod": lambda call: (np.fmod if call.node.attributes.get_int("fmod", 0) else np.mod)(*call.inputs),
    "Range": _range,
    "Reshape": lambda call: call.first.reshape(tuple(call.inputs[1])),
    "Slice": _slice,
    "Squeeze": lambda call: np.squeeze(call.first, call.axes if call.has_axes else None),
    "Unsqueeze": lambda call: np.expand_dims(call.first, call.axes),
}

ARITHMETIC: Final = frozenset(_ARITHMETIC)
"""The operators of `evaluate` that compute numbers; the others convert or arrange them."""

OPERATORS: Final = ARITHMETIC | frozenset(_OTHERS)
"""What `evaluate` computes."""
