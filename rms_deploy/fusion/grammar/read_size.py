"""n^p as a model computes it from the shape of x when it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import onnx_ir as ir

from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.constants import integers, scalar
from rms_deploy.ops.element_types import HALF
from rms_deploy.ops.nodes import given_inputs

__all__ = ["read_exponent"]

_FLOATS = (*HALF, ir.DataType.FLOAT, ir.DataType.DOUBLE)

_UNCHANGED = ("Identity", "Squeeze", "Unsqueeze", "Reshape")
_MAX_DEPTH: Final = 12


def read_exponent(value: ir.Value | None, x: ir.Value, axes: tuple[int, ...], facts: Facts) -> float | None:
    """p where `value` is the number of elements of `x` along `axes`, to the power of p; else None."""
    return _Reading(x, axes, facts, {}).exponent(value, _MAX_DEPTH)


@dataclass(frozen=True)
class _Sizes:
    """The axes whose sizes a value holds: from the front if the rank of x is known, else as the model counts them."""

    axes: tuple[int, ...]
    is_product: bool = False
    """One element, their product; else each size is an element."""

    @property
    def is_one(self) -> bool:
        return self.is_product or len(self.axes) == 1


@dataclass(frozen=True)
class _Reading:
    """What the values say of the shape of `x`; each is read once."""

    x: ir.Value
    axes: tuple[int, ...]
    facts: Facts
    known: dict[ir.Value, _Sizes | None]

    def exponent(self, value: ir.Value | None, depth: int) -> float | None:
        node = None if value is None else value.producer()
        if node is None or node.domain != "" or not depth or not node.inputs:
            return None
        if node.op_type in ("Sqrt", "Reciprocal", "Pow"):
            base = self.exponent(node.inputs[0], depth - 1)
            power = {"Sqrt": 0.5, "Reciprocal": -1.0}.get(node.op_type)
            power = scalar(node.inputs[1], self.facts) if power is None else power
            return None if base is None or power is None else base * power
        if node.op_type == "Div":
            below = self.exponent(node.inputs[1], depth - 1)
            return -below if below is not None and scalar(node.inputs[0], self.facts) == 1 else None
        if node.op_type in ("Cast", "CastLike"):
            to = self.facts.cast_type(node)
            exact = to is not None and to not in HALF
            return self.exponent(node.inputs[0], depth - 1) if exact else None
        if node.op_type in _UNCHANGED and self.facts.dtype(node.outputs[0]) in _FLOATS:
            return self.exponent(node.inputs[0], depth - 1)
        sizes = self._sizes(value, depth)
        rank = self.facts.rank(self.x)
        wanted = [axis if rank is None else axis % rank for axis in self.axes]
        return 1.0 if sizes is not None and sizes.is_one and sorted(sizes.axes) == sorted(wanted) else None

    def _sizes(self, value: ir.Value | None, depth: int) -> _Sizes | None:
        """None: `value` is something else."""
        if value is None or not depth:
            return None
        if value not in self.known:
            node = value.producer()
            known = node is not None and node.domain == "" and bool(node.inputs)
            self.known[value] = self._read(node, depth) if node is not None and known else None
        return self.known[value]

    def _read(self, node: ir.Node, depth: int) -> _Sizes | None:
        rank = self.facts.rank(self.x)
        if node.op_type in (*_UNCHANGED, "Cast", "ReduceProd"):
            sizes = self._sizes(node.inputs[0], depth - 1)
            return replace(sizes, is_product=True) if sizes is not None and node.op_type == "ReduceProd" else sizes
        if node.op_type == "Mul":
            parts = [self._sizes(part, depth - 1) for part in node.inputs]
            axes = [axis for part in parts if part is not None and part.is_one for axis in part.axes]
            is_whole = all(part is not None and part.is_one for part in parts) and len(axes) <= len(self.axes)
            return _Sizes(tuple(axes), is_product=True) if is_whole else None
        if node.op_type == "Size" and rank is not None and self.facts.has_shape_of(node.inputs[0], self.x):
            return _Sizes(tuple(range(rank)), is_product=True)
        if node.op_type == "Shape" and self.facts.has_shape_of(node.inputs[0], self.x):
            bounds = [None if a is None else a.as_int() for a in map(node.attributes.get, ("start", "end"))]
            if rank is None:
                return _Sizes((-1,)) if bounds == [-1, None] else None
            return _Sizes(tuple(range(rank))[slice(*bounds)])
        if node.op_type == "Gather":
            return self._gathered(node, depth)
        return self._sliced(node, depth) if node.op_type == "Slice" and rank is not None else None

    def _gathered(self, node: ir.Node, depth: int) -> _Sizes | None:
        indices, source = integers(node.inputs[1], self.facts), node.inputs[0]
        shape = None if source is None else source.producer()
        if indices is not None and self.facts.rank(self.x) is None and shape is not None and is_op(shape, "Shape"):
            of_x = not shape.attributes and self.facts.has_shape_of(shape.inputs[0], self.x)
            return _Sizes(indices) if of_x else None
        whole = self._sizes(source, depth - 1)
        if whole is None or whole.is_product or indices is None:
            return None
        inside = all(-len(whole.axes) <= i < len(whole.axes) for i in indices)
        return _Sizes(tuple(whole.axes[i] for i in indices)) if inside else None

    def _sliced(self, node: ir.Node, depth: int) -> _Sizes | None:
        whole = self._sizes(node.inputs[0], depth - 1)
        inputs = given_inputs(node)
        starts, ends = (integers(inputs[i], self.facts) for i in (1, 2)) if len(inputs) > 2 else (None, None)
        steps = integers(inputs[4], self.facts) if len(inputs) > 4 else (1,)
        if whole is None or whole.is_product or not starts or not ends or steps != (1,):
            return None
        return _Sizes(whole.axes[slice(starts[0], ends[0])])
