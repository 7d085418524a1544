"""The signature of a model as numpy sees it: names, dtypes, shapes, and which values an integer input may have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import ml_dtypes  # noqa: F401 - makes bfloat16 a name that numpy knows
import numpy as np
import onnx_ir as ir

from rms_deploy.errors import InputError
from rms_deploy.ops.element_types import is_float

__all__ = ["TensorSpec", "dim_name", "input_specs", "output_specs", "require_same"]

_KEEP_VALUES: Final = (
    "Cast", "Concat", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze",
)  # fmt: skip
"""Ops whose output holds the values of their first input, in another type, shape or order."""

_INDEXED: Final = ("Gather", "GatherElements")
"""Ops that index the axis `axis` of their first input with their second."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model."""

    name: str
    dtype: np.dtype[Any]
    shape: ir.Shape | None
    """None: not even the rank is known."""
    index_limit: int | None = None
    """For an integer input used as an index: the size of the smallest axis that it indexes."""

    @property
    def is_cache(self) -> bool:
        """Whether it holds keys or values of earlier tokens: its name and rank are those that exporters write."""
        return self.name.startswith("past") and self.shape is not None and len(self.shape) == 4

    def describe(self) -> str:
        """dtype and shape, as in `int64[batch,128]`."""
        dims = "..." if self.shape is None else ",".join(str(dim_name(d)) for d in self.shape)
        return f"{self.dtype.name}[{dims}]"

    def to_dict(self) -> dict[str, Any]:
        """dtype and shape, for JSON: a dynamic dimension is its name, or null."""
        dims = None if self.shape is None else [d if isinstance(d, int) else d.value for d in self.shape]
        return {"dtype": self.dtype.name, "shape": dims}

    @classmethod
    def from_dict(cls, name: str, data: Mapping[str, Any]) -> TensorSpec:
        """What `to_dict` wrote of the tensor `name`."""
        shape = None if data["shape"] is None else ir.Shape(data["shape"])
        return cls(name, np.dtype(data["dtype"]), shape)


def dim_name(dim: int | ir.SymbolicDim) -> int | str:
    """A fixed size, the name of a dynamic one, or `?`."""
    return dim if isinstance(dim, int) else (dim.value or "?")


def input_specs(model: ir.Model) -> dict[str, TensorSpec]:
    """The inputs that a caller must feed: those without an initializer.

    Raises:
        InputError: an input is not a tensor of numbers.
    """
    return {
        value.name: _spec(value, "input", _index_limit(value))
        for value in model.graph.inputs
        if value.name is not None and value.name not in model.graph.initializers
    }


def output_specs(model: ir.Model) -> dict[str, TensorSpec]:
    """The outputs.

    Raises:
        InputError: an output is not a tensor of numbers.
    """
    return {value.name: _spec(value, "output") for value in model.graph.outputs if value.name is not None}


def require_same(reference: ir.Model, candidate: ir.Model, *, any_float: bool = False) -> None:
    """Say how the two signatures differ, if they do: in a name, a dtype, a rank or a fixed size.

    `any_float`: one float type is as good as another.

    Raises:
        InputError: they differ.
    """
    for kind, specs in (("input", input_specs), ("output", output_specs)):
        ours, theirs = specs(reference), specs(candidate)
        if set(ours) != set(theirs):
            raise InputError(
                f"the models' {kind}s differ: {', '.join(ours) or 'none'} in the first, "
                f"{', '.join(theirs) or 'none'} in the second; give two models of one signature"
            )
        for name, spec in ours.items():
            if not _agree(spec, theirs[name], any_float=any_float):
                raise InputError(
                    f"{kind} {name} is {spec.describe()} in the first model and {theirs[name].describe()} in the "
                    "second; give two models of one signature"
                )


def _agree(a: TensorSpec, b: TensorSpec, *, any_float: bool) -> bool:
    same_type = a.dtype == b.dtype or (any_float and is_float(a.dtype) and is_float(b.dtype))
    if not same_type or a.shape is None or b.shape is None:
        return same_type
    pairs = zip(a.shape, b.shape, strict=False)
    return len(a.shape) == len(b.shape) and all(m == n for m, n in pairs if isinstance(m, int) and isinstance(n, int))


def _spec(value: ir.Value, kind: str, index_limit: int | None = None) -> TensorSpec:
    dtype = value.dtype if isinstance(value.type, ir.TensorType) else None
    if value.name is None or dtype in (None, ir.DataType.UNDEFINED, ir.DataType.STRING):
        kind_of = value.type or "unknown"
        raise InputError(f"{kind} {value.name} has type {kind_of}; only tensors of numbers are supported")
    return TensorSpec(value.name, np.dtype(dtype.numpy()), value.shape, index_limit)


def _index_limit(value: ir.Value) -> int | None:
    limits = list(_indexed_sizes(value))
    return min(limits) if limits else None


def _indexed_sizes(value: ir.Value) -> Iterator[int]:
    """Sizes of the axes that `value`, or what only moves its values around, indexes."""
    moved = {value}
    waiting = [value]
    while waiting:
        for node, index in waiting.pop().uses():
            if node.op_type in _KEEP_VALUES and (index == 0 or node.op_type == "Concat"):
                if node.outputs[0] not in moved:
                    moved.add(node.outputs[0])
                    waiting.append(node.outputs[0])
            elif node.op_type in _INDEXED and index == 1:
                table = node.inputs[0]
                axis = node.attributes.get_int("axis", 0)
                shape = () if table is None or table.shape is None else table.shape
                size = shape[axis] if -len(shape) <= axis < len(shape) else None
                if isinstance(size, int):
                    yield size
