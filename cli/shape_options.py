"""`--shape` and `--dim`: the sizes of dynamic inputs, for every command that runs a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

__all__ = ["as_text", "dim_option", "shape_option", "sizes_of", "split_name"]


def as_text(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Shapes as `--shape` takes them, a comma between two."""
    return ", ".join(f"{name}={'x'.join(map(str, shape))}" for name, shape in shapes.items())


def split_name(ctx: click.Context, param: click.Parameter, value: str, *, example: str) -> tuple[str, str]:
    """The parts of NAME=REST, or NAME:REST if the example is like that; a name may hold the sign itself.

    Raises:
        click.BadParameter: there is no name.
    """
    sign = "=" if "=" in example else ":"
    name, found, rest = value.rpartition(sign)
    if not found or not name:
        raise click.BadParameter(f"{value!r} has no name; write it as {example}", ctx, param)
    return name, rest


def sizes_of(ctx: click.Context, param: click.Parameter, value: str, sizes: str) -> tuple[int, ...]:
    """The shape that 1x128 stands for; nothing stands for that of a scalar.

    Raises:
        click.BadParameter: a size is no number; the message shows `value`.
    """
    try:
        return tuple(int(size) for size in sizes.split("x")) if sizes else ()
    except ValueError:
        raise click.BadParameter(f"{value!r}: sizes are numbers with x between them", ctx, param) from None


def _shapes(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    named = _by_name(ctx, param, values, example="input_ids=1x128")
    return {name: sizes_of(ctx, param, f"{name}={sizes}", sizes) for name, sizes in named.items()}


def _dims(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    named = _by_name(ctx, param, values, example="batch=2")
    try:
        return {name: int(size) for name, size in named.items()}
    except ValueError:
        raise click.BadParameter(f"{', '.join(values)}: a size is one number", ctx, param) from None


def _by_name(ctx: click.Context, param: click.Parameter, values: tuple[str, ...], *, example: str) -> dict[str, str]:
    named: dict[str, str] = {}
    for value in values:
        name, rest = split_name(ctx, param, value, example=example)
        if name in named:
            raise click.BadParameter(f"{name} is given twice", ctx, param)
        named[name] = rest
    return named


shape_option: Callable[..., Any] = click.option(
    "--shape",
    "shapes",
    metavar="NAME=SIZES",
    multiple=True,
    callback=_shapes,
    help="Shape of an input, such as input_ids=1x128. May be repeated. [default: guessed from the signature]",
)

dim_option: Callable[..., Any] = click.option(
    "--dim",
    "dims",
    metavar="NAME=SIZE",
    multiple=True,
    callback=_dims,
    help="Size of a named dynamic dimension, such as batch=2. May be repeated. [default: 2 if first, else 16]",
)
