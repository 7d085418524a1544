"""Whether two values are computed alike: by equal operators, from equal values.

Quantising tools and graphs saved by ONNX Runtime give each reader of a value a DequantizeLinear, Reshape or Transpose
of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import onnx_ir as ir

from rms_deploy.onnx_model.constant_tensor import constant_tensor
from rms_deploy.ops.foreign_ops import CONTRIB_DOMAIN
from rms_deploy.ops.nodes import given_inputs

__all__ = ["are_equal"]

_DOMAINS: Final = ("", CONTRIB_DOMAIN)
"""Whose operators compute the same from the same, but for those below."""

_RANDOM: Final = (
    "Bernoulli", "BifurcationDetector", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike", "Sampling",
)  # fmt: skip

_MAX_NODES: Final = 16
_SMALL: Final = 1024
"""Bytes of a constant that is compared."""


def are_equal(
    a: ir.Value,
    b: ir.Value,
    *,
    origin: Callable[[ir.Value], ir.Value],
    dtype: Callable[[ir.Value], ir.DataType | None],
    is_overridable: Callable[[ir.Value], bool],
) -> bool:
    """Whether both are the same numbers; False where that takes many nodes to tell.

    Args:
        a: a value.
        b: another.
        origin: of a value, the value behind nodes that hand it on, or cast it without a loss.
        dtype: of a value. Operators compute the same only from operands of the same types.
        is_overridable: whether a caller may replace a value.
    """
    waiting, looked = [(a, b)], 0
    while waiting:
        pair = waiting.pop()
        one, other = (origin(value) for value in pair)
        if looked and dtype(pair[0]) != dtype(pair[1]):
            return False
        if one is other:
            continue
        if dtype(one) != dtype(other):
            return False
        looked += 1
        first, second = one.producer(), other.producer()
        if first is None or second is None or first.op_type == second.op_type == "Constant":
            if (
                is_overridable(one)
                or is_overridable(other)
                or not _are_equal_tensors(constant_tensor(one), constant_tensor(other))
            ):
                return False
            continue
        inputs = tuple(zip(given_inputs(first), given_inputs(second), strict=False))
        if looked > _MAX_NODES or one.index() != other.index() or not _are_alike(first, second):
            return False
        if any((x is None) is not (y is None) for x, y in inputs):
            return False
        waiting += [(x, y) for x, y in inputs if x is not None and y is not None]
    return True


def _are_alike(a: ir.Node, b: ir.Node) -> bool:
    """Whether both have one operator, the same attributes, and so many inputs."""
    if a.op_identifier() != b.op_identifier() or a.domain not in _DOMAINS or a.op_type in _RANDOM:
        return False
    if len(given_inputs(a)) != len(given_inputs(b)) or a.attributes.keys() != b.attributes.keys():
        return False
    return all(_are_equal_attributes(attribute, b.attributes[name]) for name, attribute in a.attributes.items())


def _are_equal_attributes(a: ir.Attr, b: ir.Attr) -> bool:
    if a.is_ref() or b.is_ref() or a.type != b.type or a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        return False
    if a.type == ir.AttributeType.TENSOR:
        return _are_equal_tensors(a.value, b.value)
    return bool(a.value == b.value)


def _are_equal_tensors(a: ir.TensorProtocol | None, b: ir.TensorProtocol | None) -> bool:
    if a is None or b is None or a.dtype != b.dtype or tuple(a.shape) != tuple(b.shape):
        return False
    if a is b:
        return True
    if a.dtype == ir.DataType.STRING or a.nbytes > _SMALL or any(isinstance(t, ir.ExternalTensor) for t in (a, b)):
        return False
    return a.tobytes() == b.tobytes()
