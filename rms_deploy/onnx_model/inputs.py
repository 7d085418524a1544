"""Inputs for a model, from its signature: seeded random ones in several magnitudes, or real ones from a file."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.errors import InputError
from rms_deploy.onnx_model.shapes import check_shape, require_known, resolve_shapes
from rms_deploy.onnx_model.signature import TensorSpec, input_specs
from rms_deploy.ops.element_types import is_float

__all__ = ["GIVEN", "MAGNITUDES", "Magnitude", "check_inputs", "load_inputs", "random_inputs", "resolve_inputs"]

Magnitude = Literal["normal", "outlier", "tiny", "huge"]
MAGNITUDES: Final[tuple[Magnitude, ...]] = get_args(Magnitude)

GIVEN: Final = "given"
"""The kind of inputs that the caller gave."""

_OUTLIER: Final = 1000.0


def resolve_inputs(
    model: ir.Model,
    *,
    inputs: str | os.PathLike[str] | Mapping[str, NDArray[Any]] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    magnitudes: Sequence[Magnitude] = ("normal",),
) -> dict[str, dict[str, NDArray[Any]]]:
    """The inputs of `model` by kind: those that are given, or random ones of each magnitude.

    A model without float inputs other than a key-value cache has one magnitude, the first.

    Args:
        model: whose inputs.
        inputs: an .npz file, or arrays by name; their kind is `GIVEN`.
        shapes: of random inputs, by name.
        dims: sizes of named dynamic dimensions, for random inputs.
        seed: of random inputs.
        magnitudes: of random inputs.

    Raises:
        InputError: inputs and shapes are both given, or one does not fit the model.
    """
    if inputs is not None:
        if shapes or dims:
            raise InputError(
                "`inputs` were given, and `shapes` or `dims` too; arrays have shapes of their own: leave the shapes out"
            )
        given = dict(inputs) if isinstance(inputs, Mapping) else load_inputs(inputs, model)
        check_inputs(given, model)
        return {GIVEN: given}
    resolved = resolve_shapes(model, shapes=shapes, dims=dims)
    has_floats = any(is_float(spec.dtype) and not spec.is_cache for spec in input_specs(model).values())
    return {
        magnitude: random_inputs(model, resolved, seed=seed, magnitude=magnitude)
        for magnitude in (magnitudes if has_floats else magnitudes[:1])
    }


def random_inputs(
    model: ir.Model,
    shapes: Mapping[str, Sequence[int]],
    *,
    seed: int = 0,
    magnitude: Magnitude = "normal",
) -> dict[str, NDArray[Any]]:
    """Inputs drawn from a seed and the input's name, so that models that share a name get the same numbers.

    Floats, by `magnitude`:
        normal: standard normal.
        outlier: the same, with one channel (index of the last axis) 1000 times as large, as trained decoders have.
        tiny: 1e-4 times (float16: 1e-3, since below 6e-5 its numbers lose bits before any op runs): mean squares
            below every usual epsilon, so that a wrong epsilon shows.
        huge: so large that a float32 sum of squares over the whole tensor is just finite: a factor of 8 below
            sqrt(largest float32 / number of elements), since beyond that the formula itself overflows in the
            reference. float16: 1/16 of its largest number, so that a sum of two tensors is still finite.

    A key-value cache (by name and rank) is always normal: attention picks keys by an exponential of their products, and
    with huge ones the last bit of a product decides.

    Integers: an index is drawn from all rows of the table that it indexes. Otherwise a position (by name) counts up,
    8-bit numbers take their whole range, and the rest is 0 or 1.
    Booleans and masks (by name): 0 or 1; 1 in the first place of each row, so that no row is masked entirely.

    Args:
        model: whose inputs.
        shapes: of every input, as `resolve_shapes` gives them.
        seed: any non-negative integer.
        magnitude: of the float inputs.

    Raises:
        InputError: a shape does not fit in memory.
    """
    feeds = {}
    for name, spec in input_specs(model).items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        shape = tuple(shapes[name])
        whole = np.issubdtype(spec.dtype, np.integer) or spec.dtype == np.bool_
        try:
            feeds[name] = _integers(spec, shape, rng) if whole else _floats(spec, shape, rng, magnitude)
        except (MemoryError, ValueError) as error:  # ValueError: more bytes than numpy can count
            raise InputError(f"input {name}: shape {list(shape)} does not fit in memory; use a smaller one") from error
    return feeds


def load_inputs(path: str | os.PathLike[str], model: ir.Model) -> dict[str, NDArray[Any]]:
    """Read the inputs of `model` from an .npz file, one array per input, by name.

    numpy has no bfloat16 of its own and reads it back as two raw bytes; that is accepted.

    Raises:
        InputError: the file cannot be read, or does not fit the model's signature.
    """
    try:
        with Path(path).open("rb") as file:  # np.load leaves a file open that it cannot read
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: holds one array; give an .npz file with one array per input")
            feeds = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: is not an .npz file of plain arrays; write it with numpy.savez") from error
    for name, spec in input_specs(model).items():
        if name in feeds and spec.dtype == ml_dtypes.bfloat16 and feeds[name].dtype == np.dtype("V2"):
            feeds[name] = feeds[name].view(ml_dtypes.bfloat16)
    check_inputs(feeds, model)
    return feeds


def check_inputs(feeds: Mapping[str, NDArray[Any]], model: ir.Model) -> None:
    """Hold `feeds` against the signature of `model`.

    Raises:
        InputError: a name is missing or unknown, or a dtype, rank or fixed size differs.
    """
    specs = input_specs(model)
    require_known("input", feeds, specs)
    if missing := [name for name in specs if name not in feeds]:
        raise InputError(f"no array for input {', '.join(missing)}; the model needs {', '.join(specs)}")
    for name, array in feeds.items():
        if array.dtype != specs[name].dtype:
            raise InputError(f"input {name}: dtype {array.dtype} was given; the model takes {specs[name].dtype}")
        check_shape(specs[name], array.shape)


def _integers(spec: TensorSpec, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
    low, high = 0, spec.index_limit or 2
    if spec.index_limit is None and spec.dtype != np.bool_:
        if "position" in spec.name.lower() and shape:
            return np.broadcast_to(np.arange(shape[-1]), shape).astype(spec.dtype)
        if spec.dtype.itemsize == 1 and "mask" not in spec.name.lower():
            low, high = int(np.iinfo(spec.dtype).min), int(np.iinfo(spec.dtype).max) + 1
    values = rng.integers(low, high, size=shape)
    if (low, high) == (0, 2):
        values = np.atleast_1d(values)
        values[..., :1] = 1
    return values.reshape(shape).astype(spec.dtype)


def _floats(spec: TensorSpec, shape: tuple[int, ...], rng: np.random.Generator, magnitude: Magnitude) -> NDArray[Any]:
    dtype = spec.dtype
    magnitude = "normal" if spec.is_cache else magnitude
    values = rng.standard_normal(shape)
    if magnitude == "outlier" and shape and shape[-1]:
        values[..., rng.integers(shape[-1])] *= _OUTLIER
    elif magnitude == "tiny":
        values = values * (1e-3 if dtype == np.float16 else 1e-4)
    elif magnitude == "huge":
        values = values * _huge(dtype, math.prod(shape))
    return np.asarray(values).astype(dtype)


def _huge(dtype: np.dtype[Any], elements: int) -> float:
    if dtype == np.float16:
        return float(np.finfo(np.float16).max) / 16
    widest = np.finfo(np.float64 if dtype == np.float64 else np.float32)
    return math.sqrt(float(widest.max) / max(elements, 1)) / 8
