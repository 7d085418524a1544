"""A shape for every input of a model: given, or guessed from the signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import onnx_ir as ir

from rms_deploy.errors import InputError
from rms_deploy.onnx_model.signature import TensorSpec, dim_name, input_specs

__all__ = ["check_shape", "guess_advice", "require_known", "resolve_shapes"]

_GUESSED_BATCH: Final = 2
_GUESSED_SIZE: Final = 16


def resolve_shapes(
    model: ir.Model,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    argument: str = "shapes",
) -> dict[str, tuple[int, ...]]:
    """A shape for each input. A dynamic dimension that nobody gave is 2 in the first place (batch), else 16.

    The `attention_mask` of a decoder with a key-value cache is as long as the past and `input_ids` together, whatever
    name the model has for that.

    Args:
        model: whose inputs.
        shapes: whole shapes, by input name. They also settle the named dimensions of the other inputs.
        dims: sizes of named dynamic dimensions.
        argument: what the caller calls `shapes`, for the error.

    Raises:
        InputError: a name that the model does not have, or a size that contradicts it.
    """
    specs = input_specs(model)
    shapes, bindings = dict(shapes or {}), dict(dims or {})
    require_known("input", shapes, specs)
    require_known("dynamic dimension", bindings, _dynamic_names(specs))
    for name, size in bindings.items():
        _require_size(name, size)
    for name, shape in shapes.items():
        check_shape(specs[name], shape)
        for symbol, size in _named_sizes(specs[name], shape).items():
            if bindings.setdefault(symbol, size) != size:
                raise InputError(
                    f"dimension {symbol} is {bindings[symbol]} and, in input {name}, {size}; give it one size"
                )
    bindings |= _mask_length(specs, bindings)
    _guess(specs, bindings)
    resolved = {}
    for name, spec in specs.items():
        if name in shapes:
            resolved[name] = tuple(shapes[name])
        elif spec.shape is None:
            raise InputError(f"input {name}: the model does not say its shape; {_advice(name, argument)}")
        else:
            resolved[name] = tuple(_size(spec, axis, bindings, argument) for axis in range(len(spec.shape)))
    return resolved


def guess_advice(
    model: ir.Model, *, shapes: Mapping[str, Sequence[int]] | None = None, dims: Mapping[str, int] | None = None
) -> str:
    """What to give where the model does not run with the sizes that `resolve_shapes` guesses; empty: it guesses none.

    Args:
        model: whose inputs.
        shapes: as of `resolve_shapes`.
        dims: as of `resolve_shapes`.
    """
    specs = input_specs(model)
    shapes, bindings = dict(shapes or {}), dict(dims or {})
    for name, shape in shapes.items():
        bindings |= _named_sizes(specs[name], shape)
    _guess(specs, guesses := dict(bindings))
    guessed = {name: size for name, size in guesses.items() if name not in bindings}
    if not guessed:
        return ""
    text = ", ".join(f"{name}={size}" for name, size in guessed.items())
    example = dict(list(guessed.items())[-1:])
    return f"these sizes were guessed: {text}; give those that do not fit, such as `dims={example}`"


def require_known(kind: str, given: Mapping[str, Any], known: Mapping[str, Any] | Sequence[str]) -> None:
    """Every name in `given` is in `known`.

    Raises:
        InputError: one is not.
    """
    for name in given:
        if name not in known:
            raise InputError(f"the model has no {kind} {name!r}; it has {', '.join(known) or 'none'}")


def check_shape(spec: TensorSpec, shape: Sequence[int]) -> None:
    """`shape` has the rank and the fixed sizes of `spec`.

    Raises:
        InputError: it has not.
    """
    for size in shape:
        _require_size(f"input {spec.name}", size)
    if spec.shape is None:
        return
    fits = len(shape) == len(spec.shape) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        raise InputError(f"input {spec.name}: shape {list(shape)} was given; the model takes {spec.describe()}")


def _require_size(name: str, size: int) -> None:
    if size < 0:
        raise InputError(f"{name}: size {size} is negative; use 0 or more")
    if size >= 2**63:
        raise InputError(f"{name}: size {size} does not fit into 64 bits; use a smaller one")


def _dynamic_names(specs: Mapping[str, TensorSpec]) -> list[str]:
    """The symbols in the inputs' dimensions, in order: of `past + 1`, `past`."""
    dims = [d for spec in specs.values() for d in spec.shape or () if isinstance(d, ir.SymbolicDim)]
    return list(dict.fromkeys(symbol for d in dims for symbol in sorted(d.free_symbols())))


def _named_sizes(spec: TensorSpec, shape: Sequence[int]) -> dict[str, int]:
    dims = zip(spec.shape or (), shape, strict=False)
    return {str(d.value): size for d, size in dims if isinstance(d, ir.SymbolicDim) and d.value is not None}


def _mask_length(specs: Mapping[str, TensorSpec], bindings: Mapping[str, int]) -> dict[str, int]:
    """The size of the symbol for past and new tokens together, where only the attention mask has it."""
    past = next((spec for spec in specs.values() if spec.is_cache), None)
    lengths = [_symbol(specs.get(name), 1) for name in ("attention_mask", "input_ids")]
    total, parts = lengths[0], [_symbol(past, 2), lengths[1]]
    if total is None or None in parts or total in (*parts, *bindings):
        return {}
    return {total: sum(bindings.get(str(part), _GUESSED_SIZE) for part in parts)}


def _symbol(spec: TensorSpec | None, axis: int) -> str | None:
    """The name of a dynamic dimension; None: it is fixed, has no name, or is an expression of others."""
    dim = spec.shape[axis] if spec is not None and spec.shape is not None and axis < len(spec.shape) else None
    return dim.value if isinstance(dim, ir.SymbolicDim) and dim.free_symbols() == {dim.value} else None


def _guess(specs: Mapping[str, TensorSpec], bindings: dict[str, int]) -> None:
    """Bind every symbol that is not bound yet."""
    for spec in specs.values():
        for axis, dim in enumerate(spec.shape or ()):
            if isinstance(dim, ir.SymbolicDim):
                for symbol in sorted(dim.free_symbols()):
                    bindings.setdefault(symbol, _GUESSED_BATCH if axis == 0 and _rank(spec) > 1 else _GUESSED_SIZE)


def _rank(spec: TensorSpec) -> int:
    return len(spec.shape or ())


def _size(spec: TensorSpec, axis: int, bindings: Mapping[str, int], argument: str) -> int:
    assert spec.shape is not None
    dim = spec.shape[axis]
    if isinstance(dim, int):
        return dim
    if dim.value is None:
        return _GUESSED_BATCH if axis == 0 and _rank(spec) > 1 else _GUESSED_SIZE
    size = dim.evaluate(bindings)
    if not isinstance(size, int) or size < 0:
        raise InputError(f"input {spec.name}: cannot tell dimension {dim_name(dim)}; {_advice(spec.name, argument)}")
    return size


def _advice(name: str, argument: str) -> str:
    if argument != "shapes":
        return f"give its shapes in `{argument}`"
    example = {name: (1, 128)}
    return f"give its shape, such as `shapes={example}`"
