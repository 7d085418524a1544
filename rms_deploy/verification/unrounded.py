"""A model in half precision with the weights that it was made from, so that the two formulas can be compared."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.ops.element_types import HALF
from rms_deploy.ops.narrow import narrowed
from rms_deploy.ops.nodes import all_graphs

__all__ = ["unround"]


def unround(model: ir.Model, reference: ir.Model) -> tuple[str, ...]:
    """Give each weight of `model` that is in a half type the numbers that `reference` has in its place.

    They have the same numbers once they are rounded: those of the weight with its name if they do, else those of
    another weight, as what is computed from constants alone has names of its own.

    Args:
        model: changed in place; float32 afterwards where a weight was found. Its constants are initialisers.
        reference: another model, whose constants are initialisers.

    Returns:
        The names of the weights that have no such numbers, and stay as they are; but for those that are in a half type
        in `reference` too, and for whole numbers, such as the scale of one that `fuse` gives a norm without a scale.
    """
    originals = {v.name: v.const_value for v in _weights(reference) if v.dtype in (ir.DataType.FLOAT, *HALF)}
    by_numbers: dict[ir.DataType, dict[Hashable, ir.TensorProtocol]] = {}
    alone = []
    for value in _weights(model):
        tensor = value.const_value
        if tensor is None or tensor.dtype not in HALF:
            continue
        namesake = originals.get(value.name)
        if _is_same(namesake, tensor):
            continue
        if namesake is None or _key(_rounded(namesake, tensor.dtype)) != _key(tensor.numpy()):
            if tensor.dtype not in by_numbers:
                by_numbers[tensor.dtype] = {
                    _key(_rounded(other, tensor.dtype)): other
                    for other in originals.values()
                    if other is not None and other.dtype != tensor.dtype
                }
            namesake = by_numbers[tensor.dtype].get(_key(tensor.numpy()))
        if namesake is None:
            if not _is_whole(tensor.numpy()):
                alone.append(value.name or "")
            continue
        array = namesake.numpy().astype(np.float32, copy=False).reshape(tuple(tensor.shape.numpy()))
        value.const_value = ir.Tensor(array, name=value.name)
        value.type = ir.TensorType(ir.DataType.FLOAT)
    return tuple(alone)


def _weights(model: ir.Model) -> Iterator[ir.Value]:
    for graph in all_graphs([model.graph]):
        yield from graph.initializers.values()


def _is_same(one: ir.TensorProtocol | None, other: ir.TensorProtocol) -> bool:
    return one is not None and one.dtype == other.dtype and _key(one.numpy()) == _key(other.numpy())


def _is_whole(array: NDArray[Any]) -> bool:
    return bool(np.all(array == np.round(array.astype(np.float32))))


def _rounded(tensor: ir.TensorProtocol, dtype: ir.DataType) -> NDArray[Any]:
    return narrowed(tensor.numpy(), np.dtype(dtype.numpy()))


def _key(array: NDArray[Any]) -> Hashable:
    """The same for weights of the same numbers in the same order, and of another one for all others."""
    return array.size, zlib.crc32(np.ascontiguousarray(array).tobytes())
