"""Inputs for a model and its cast to half precision: numbers that both can hold."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.errors import InputError
from rms_deploy.onnx_model.inputs import Magnitude, check_inputs, resolve_inputs
from rms_deploy.onnx_model.signature import input_specs
from rms_deploy.ops.element_types import is_float

__all__ = ["MAGNITUDES_OF_CASTS", "cast_inputs", "fitted"]

_Arrays = Mapping[str, NDArray[Any]]

MAGNITUDES_OF_CASTS: Final[tuple[Magnitude, ...]] = ("normal", "outlier")
"""Not `tiny` and `huge`: what is near the ends of a range is what a cast gives up. The formula is compared there."""


def cast_inputs(
    reference: ir.Model,
    candidate: ir.Model,
    *,
    inputs: str | os.PathLike[str] | _Arrays | None,
    shapes: Mapping[str, Sequence[int]] | None,
    dims: Mapping[str, int] | None,
    seed: int,
) -> dict[str, dict[str, NDArray[Any]]]:
    """By kind, in the types of `reference`, rounded to those of `candidate`.

    Args:
        reference: a model in float32.
        candidate: its cast.
        inputs: an .npz file or arrays of the reference; default: random ones, in each of `MAGNITUDES_OF_CASTS`.
        shapes: as `resolve_inputs` takes them.
        dims: likewise.
        seed: likewise.

    Raises:
        InputError: they do not fit the models, or an input is beyond the range of the candidate's type.
    """
    drawn = resolve_inputs(
        reference if inputs is not None else candidate,
        inputs=inputs,
        shapes=shapes,
        dims=dims,
        seed=seed,
        magnitudes=MAGNITUDES_OF_CASTS,
    )
    result = {}
    for kind, feeds in drawn.items():
        narrow = fitted(feeds, candidate)
        check_inputs(narrow, candidate)
        for name, array in feeds.items():
            if is_float(array.dtype) and not np.array_equal(np.isfinite(array), np.isfinite(narrow[name])):
                largest = np.abs(array[np.isfinite(array)]).max()
                raise InputError(
                    f"input {name}: {largest:.3g} was given, beyond the range of {narrow[name].dtype}; give smaller "
                    "numbers, or cast with `keep_io=True`"
                )
        result[kind] = fitted(narrow, reference)
    return result


def fitted(feeds: _Arrays, model: ir.Model) -> dict[str, NDArray[Any]]:
    """Inputs, each float in the float type that `model` takes."""
    specs = input_specs(model)
    result = {}
    for name, array in feeds.items():
        takes = specs[name].dtype if name in specs else array.dtype
        both_float = is_float(array.dtype) and is_float(takes)
        with np.errstate(over="ignore"):
            result[name] = array.astype(takes) if both_float and takes != array.dtype else array
    return result
