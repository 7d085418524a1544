"""One tensor of a model file: its element type, dims and data fit each other."""

from __future__ import annotations

from math import prod
from typing import Final

import onnx
import onnx_ir as ir

from rms_deploy.onnx_model.malformed import MalformedError, printable

__all__ = ["BIT_WIDTHS", "ELEMENT_TYPES", "MAX_RANK", "check_tensor", "size_of"]

MAX_RANK: Final = 64
"""What numpy can hold."""

_STRING: Final = int(onnx.TensorProto.STRING)
_EXTERNAL: Final = int(onnx.TensorProto.EXTERNAL)
_MAX_BYTES: Final = 2**62

BIT_WIDTHS: Final[dict[int, int]] = {
    int(kind): kind.bitwidth for kind in ir.DataType if kind not in (ir.DataType.UNDEFINED, ir.DataType.STRING)
}
"""Of each element type that onnx-ir knows; strings have none."""

ELEMENT_TYPES: Final = frozenset((*BIT_WIDTHS, _STRING))

_FIELDS: Final[dict[int, str]] = {
    onnx.TensorProto.FLOAT: "float_data",
    onnx.TensorProto.COMPLEX64: "float_data",
    onnx.TensorProto.DOUBLE: "double_data",
    onnx.TensorProto.COMPLEX128: "double_data",
    onnx.TensorProto.INT64: "int64_data",
    onnx.TensorProto.UINT64: "uint64_data",
    onnx.TensorProto.UINT32: "uint64_data",
    onnx.TensorProto.STRING: "string_data",
}
"""Where data lies that is not raw; of all other types in `int32_data`."""

_DATA_FIELDS: Final = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


def check_tensor(tensor: onnx.TensorProto) -> int:
    """The number of bytes that the data of `tensor` has as raw data; 0 for strings.

    Data outside the file is not looked at here.

    Raises:
        MalformedError: the element type is unknown, a dim is negative, or the data is not what both need.
    """
    kind, dims = tensor.data_type, tensor.dims[:]
    label = tensor.name or "a tensor"
    size = size_of(label, kind, dims)
    if tensor.data_location == _EXTERNAL:
        if kind == _STRING:
            raise MalformedError(f"{printable(label)}: strings cannot be external data")
        return size
    if tensor.HasField("raw_data"):
        if kind == _STRING:
            raise MalformedError(f"{printable(label)}: strings cannot be raw data")
        if len(tensor.raw_data) != size:
            raise MalformedError(
                f"{printable(label)}: has {len(tensor.raw_data)} bytes of data; {_described(kind, dims)} needs {size}"
            )
        return size
    _check_fields(label, tensor, kind, dims)
    return size


def size_of(label: str, kind: int, dims: list[int]) -> int:
    """The bytes of a tensor of element type `kind`, 0 for strings; `label` names it in messages.

    Raises:
        MalformedError: the element type is unknown, or a tensor of these dims is none that a machine can hold.
    """
    if kind not in ELEMENT_TYPES:
        raise MalformedError(f"{printable(label)}: element type {kind} is unknown")
    return -(-_count(label, dims) * BIT_WIDTHS.get(kind, 0) // 8)


def _count(label: str, dims: list[int]) -> int:
    """The elements of a tensor of these dims."""
    if len(dims) > MAX_RANK:
        raise MalformedError(f"{printable(label)}: has {len(dims)} dims; at most {MAX_RANK} are read")
    if dims and min(dims) < 0:
        raise MalformedError(f"{printable(label)}: has a negative dim, {min(dims)}")
    count = prod(dims)
    if (count or prod(dim or 1 for dim in dims)) * 16 >= _MAX_BYTES:
        raise MalformedError(f"{printable(label)}: dims {'x'.join(map(str, dims))} are more than memory can hold")
    return count


def _check_fields(label: str, tensor: onnx.TensorProto, kind: int, dims: list[int]) -> None:
    """The data of a tensor that has no raw data."""
    field = _FIELDS.get(kind, "int32_data")
    for other in _DATA_FIELDS:
        if other != field and len(getattr(tensor, other)):
            raise MalformedError(f"{printable(label)}: holds {other}; {ir.DataType(kind).name} has its data in {field}")
    needed = prod(dims)
    if kind in (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128):
        needed *= 2
    elif BIT_WIDTHS.get(kind, 8) in (2, 4):  # packed, as many as fit into eight bits
        needed = -(-needed * BIT_WIDTHS[kind] // 8)
    found = len(getattr(tensor, field))
    if found != needed:
        raise MalformedError(
            f"{printable(label)}: has {found} numbers in {field}; {_described(kind, dims)} needs {needed}"
        )


def _described(kind: int, dims: list[int]) -> str:
    return f"{ir.DataType(kind).name}[{','.join(map(str, dims))}]"
