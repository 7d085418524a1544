"""Optimization profiles: the smallest, the usual and the largest shape of each input of an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import onnx_ir as ir

from rms_deploy.errors import InputError
from rms_deploy.onnx_model.shapes import check_shape, require_known, resolve_shapes
from rms_deploy.onnx_model.signature import TensorSpec, input_specs

__all__ = ["OptimizationProfile", "ShapeRange", "guessed_inputs", "resolve_profiles"]

_Sizes = tuple[int, ...]

_GUESSED_GROWTH: Final = 16
"""A guessed dimension goes from 1 to so many times the size that `resolve_shapes` guesses."""


class ShapeRange(NamedTuple):
    """The shapes that an input may have; the engine is tuned for `opt`."""

    min: _Sizes
    opt: _Sizes
    max: _Sizes

    def __str__(self) -> str:
        return ":".join("x".join(map(str, shape)) for shape in self)

    def holds(self, shape: Sequence[int]) -> bool:
        """Whether `shape` lies between the smallest and the largest one."""
        return len(shape) == len(self.min) and all(
            low <= size <= high for low, size, high in zip(self.min, shape, self.max, strict=True)
        )


OptimizationProfile = Mapping[str, ShapeRange]
"""What an engine is built for: a range for each input, by name."""


def resolve_profiles(
    model: ir.Model, given: Sequence[Mapping[str, Sequence[Sequence[int]]]]
) -> tuple[OptimizationProfile, ...]:
    """The optimization profiles of an engine, with a range for every input.

    A dimension that a given range settles is settled in the other inputs too, by its name. Any other dynamic dimension
    goes from 1 to 16 times the size that `resolve_shapes` guesses.

    Args:
        model: whose inputs.
        given: for each profile, some inputs with their smallest, usual and largest shape; none: one profile.

    Raises:
        InputError: a name that the model does not have, a shape that does not fit it, or sizes out of order.
    """
    specs = input_specs(model)
    for profile in given:
        require_known("input", profile, specs)
        for name, shapes in profile.items():
            _check_range(specs[name], shapes)
    return tuple(_resolved(model, specs, profile) for profile in given or ({},))


def guessed_inputs(model: ir.Model, given: Sequence[Mapping[str, Sequence[Sequence[int]]]]) -> tuple[str, ...]:
    """The dynamic inputs that some profile in `given` leaves out."""
    dynamic = (name for name, spec in input_specs(model).items() if _is_dynamic(spec))
    return tuple(name for name in dynamic if not given or any(name not in profile for profile in given))


def _resolved(
    model: ir.Model, specs: Mapping[str, TensorSpec], given: Mapping[str, Sequence[Sequence[int]]]
) -> OptimizationProfile:
    settled = {symbol for name in given for symbol in _symbols(specs[name])}

    def at(index: int, dims: Mapping[str, int]) -> dict[str, _Sizes]:
        shapes = {name: shapes[index] for name, shapes in given.items()}
        return resolve_shapes(model, shapes=shapes, dims=dims, argument="optimization_profiles")

    usual = at(1, {})
    sizes = {
        symbol: size
        for name, shape in usual.items()
        for dim, size in zip(specs[name].shape or (), shape, strict=False)
        for symbol in [dim.value if isinstance(dim, ir.SymbolicDim) else None]
        if symbol is not None and symbol in set(_symbols(specs[name])) - settled
    }
    low = at(0, dict.fromkeys(sizes, 1))
    high = at(2, {symbol: _GUESSED_GROWTH * size for symbol, size in sizes.items()})
    return {name: ShapeRange(low[name], usual[name], high[name]) for name in specs}


def _symbols(spec: TensorSpec) -> list[str]:
    dims = [dim for dim in spec.shape or () if isinstance(dim, ir.SymbolicDim)]
    return [symbol for dim in dims for symbol in sorted(dim.free_symbols())]


def _is_dynamic(spec: TensorSpec) -> bool:
    return spec.shape is None or not all(isinstance(dim, int) for dim in spec.shape)


def _check_range(spec: TensorSpec, shapes: Sequence[Sequence[int]]) -> None:
    if len(shapes) != 3:
        raise InputError(f"input {spec.name}: {len(shapes)} shapes were given; give the smallest, usual and largest")
    for shape in shapes:
        check_shape(spec, shape)
    given = ShapeRange(*(tuple(shape) for shape in shapes))
    if len(given.min) != len(given.max) or not all(map(given.holds, given)):
        raise InputError(f"input {spec.name}: {given} is not in order; no size may shrink from min to opt to max")
