"""Shapes at a few sizes of the inputs, where symbols alone do not tell whether two tensors have one shape.

A scan over chunks pads a sequence to a multiple of the chunk, and cuts it off again: the length is what it was, by the
division of integers, which shape inference does not follow. With numbers for the symbols it is computed. That is no
proof for other sizes: it may decide only what, where it is wrong, ends in an error and not in other numbers.
"""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from rms_deploy.onnx_model.analysis import Facts, is_op
from rms_deploy.onnx_model.constants import constant
from rms_deploy.onnx_model.inference import Shape

__all__ = ["have_one_sampled_shape", "sampled_shape"]

_SIZES: Final = ((1, 1, 1, 1), (2, 1, 3, 1), (2, 3, 1, 1), (2, 3, 5, 7), (3, 130, 67, 41))
"""Of the first symbols: single elements, less than a chunk, and more than one. Of any two, once only one is 1: where a
shape follows another symbol, it is broadcast there.
"""

_MIN_EQUAL: Final = 2

_MAX_ROUNDS: Final = 8
_SIZED: Final = ("ConstantOfShape", "Expand", "Pad", "Range", "Reshape", "Slice", "Split", "Tile")
"""Operators whose result has a shape that the numbers in an input say."""


def have_one_sampled_shape(a: ir.Value, b: ir.Value, facts: Facts) -> bool:
    """Whether two values of the main graph, which are multiplied, have one shape at the sizes that are tried.

    Sizes at which no product of them exists do not count: exporters write a loop for the length that they saw.
    """
    graph = facts.model.graph
    if a.graph is not graph or b.graph is not graph:
        return False
    pairs = [(_static(shapes.get(a.name)), _static(shapes.get(b.name))) for shapes in _samples(facts)]
    equal = sum(one is not None and one == other for one, other in pairs)
    return equal >= _MIN_EQUAL and all(one == other or _is_no_product(one, other) for one, other in pairs)


def sampled_shape(value: ir.Value, facts: Facts) -> Shape | None:
    """The shape of a value, where a dim that is not known is the number that it is at all sizes that are tried."""
    shape = facts.shape(value)
    if shape is None or value.graph is not facts.model.graph:
        return shape
    found = [dims for shapes in _samples(facts) if (dims := _static(shapes.get(value.name))) is not None]
    if len(found) < _MIN_EQUAL or any(len(dims) != len(shape) for dims in found):
        return shape
    numbers = [set(dims) for dims in zip(*found, strict=True)]
    return tuple(
        sizes.pop() if len(sizes) == 1 and not isinstance(dim, int) else dim
        for dim, sizes in zip(shape, numbers, strict=True)
    )


def _samples(facts: Facts) -> list[dict[str | None, Shape | None]]:
    if facts.samples is None:
        facts.samples = [_shapes_at(facts.model, sizes) for sizes in _SIZES]
    return facts.samples


def _static(shape: Shape | None) -> tuple[int, ...] | None:
    dims = tuple(dim for dim in shape or () if isinstance(dim, int))
    return dims if shape is not None and len(dims) == len(shape) else None


def _is_no_product(one: tuple[int, ...] | None, other: tuple[int, ...] | None) -> bool:
    if one is None or other is None:
        return False
    return any(1 not in (a, b) and a != b for a, b in zip(reversed(one), reversed(other), strict=False))


def _shapes_at(model: ir.Model, sizes: tuple[int, ...]) -> dict[str | None, Shape | None]:
    """The shapes of the values of the main graph, by name, where the symbols of the inputs have these sizes.

    A dim without a name is a symbol of its own.
    """
    sized = model.clone()
    given: dict[object, int] = {}
    for value in sized.graph.inputs:
        if value.shape is not None:
            dims = [dim if isinstance(dim, int) else dim.value or object() for dim in value.shape]
            value.shape = ir.Shape(
                dim if isinstance(dim, int) else given.setdefault(dim, _size(len(given), sizes)) for dim in dims
            )
    facts = Facts(sized)
    for _ in range(_MAX_ROUNDS):
        if not _write_sizes(sized.graph, facts):
            break
        facts = Facts(sized)
    values = (*sized.graph.inputs, *(value for node in sized.graph for value in node.outputs))
    return {value.name: facts.shape(value) for value in values}


def _size(number: int, sizes: tuple[int, ...]) -> int:
    """Of a symbol, by its number: no two of them are equal because there are many."""
    return sizes[number % len(sizes)] + number // len(sizes) * (max(sizes) + 1)


def _write_sizes(graph: ir.Graph, facts: Facts) -> bool:
    """Make constants of the numbers that say a shape, where they can be computed now; whether there were any."""
    written: dict[ir.Value, ir.Value] = {}
    for node in [node for node in graph if is_op(node, *_SIZED)]:
        for index, value in enumerate(node.inputs):
            maker = None if value is None else value.producer()
            if value is None or maker is None or is_op(maker, "Constant"):
                continue
            array = constant(value, facts) if facts.dtype(value) == ir.DataType.INT64 else None
            if array is not None and value not in written:
                made = ir.node("Constant", [], {"value": ir.tensor(array)})
                graph.insert_before(node, made)
                made.outputs[0].name = f"{value.name}/sampled"
                written[value] = made.outputs[0]
            if value in written:
                node.replace_input_with(index, written[value])
    return bool(written)
