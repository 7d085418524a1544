"""`--shape`, and trtexec's `--minShapes`, `--optShapes` and `--maxShapes`: the optimization profiles of an engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from rms_deploy.cli.shape_options import sizes_of, split_name

__all__ = ["optimization_profile_options", "optimization_profiles_of"]

_Shape = tuple[int, ...]
_Profiles = list[dict[str, tuple[_Shape, ...]]]


def optimization_profile_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the four options; `optimization_profiles_of` reads their values."""
    for name in ("max", "opt", "min"):
        command = click.option(
            f"--{name}Shapes",
            f"{name}_shapes",
            metavar="NAME:SIZES,...",
            multiple=True,
            callback=_trtexec,
            help=f"The {name}. shapes as trtexec takes them, such as x:1x64,y:1; once for each optimization profile.",
        )(command)
    return click.option(
        "--shape",
        "optimization_profiles",
        metavar="NAME=MIN:OPT:MAX",
        multiple=True,
        callback=_ranges,
        help="Shapes of an input, such as x=1x1x64:8x128x64:32x512x64, or one for all three. Repeat it for each input; "
        "an input that is named again begins another optimization profile. "
        "[default: 1 to 16 times what the other commands guess]",
    )(command)


def optimization_profiles_of(shapes: _Profiles, **trtexec: list[dict[str, _Shape]]) -> _Profiles:
    """Those of `--shape`; or those of trtexec's three options, of which one that is left out is like the next.

    Raises:
        click.UsageError: options that exclude each other, or do not fit together.
    """
    given = {name: profiles for name, profiles in trtexec.items() if profiles}
    if not given:
        return shapes
    if shapes:
        raise click.UsageError("--shape and trtexec's --minShapes, --optShapes, --maxShapes exclude each other.")
    if len({len(profiles) for profiles in given.values()}) > 1:
        raise click.UsageError(
            "--minShapes, --optShapes and --maxShapes must be given once for each optimization profile."
        )
    low = given.get("min_shapes") or given.get("opt_shapes") or given["max_shapes"]
    high = given.get("max_shapes") or given.get("opt_shapes") or given["min_shapes"]
    usual = given.get("opt_shapes") or high
    profiles: _Profiles = []
    for each in zip(low, usual, high, strict=True):
        if len({tuple(sorted(names)) for names in each}) > 1:
            raise click.UsageError("--minShapes, --optShapes and --maxShapes must name the same inputs.")
        profiles.append({name: tuple(shape[name] for shape in each) for name in each[0]})
    return profiles


def _ranges(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> _Profiles:
    profiles: _Profiles = []
    for value in values:
        name, text = split_name(ctx, param, value, example="x=1x64:8x64:32x64")
        shapes = tuple(sizes_of(ctx, param, value, sizes) for sizes in text.split(":"))
        if len(shapes) not in (1, 3):
            raise click.BadParameter(f"{value!r} has {len(shapes)} shapes; give min:opt:max, or one", ctx, param)
        if not profiles or name in profiles[-1]:
            profiles.append({})
        profiles[-1][name] = shapes * (3 // len(shapes))
    return profiles


def _trtexec(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[dict[str, _Shape]]:
    profiles = []
    for value in values:
        parts = [(part, *split_name(ctx, param, part, example="x:1x64")) for part in value.split(",")]
        profiles.append({name: sizes_of(ctx, param, part, sizes) for part, name, sizes in parts})
        if len(profiles[-1]) < len(parts):
            text = f"{value!r} names an input twice; give the option once for each optimization profile"
            raise click.BadParameter(text, ctx, param)
    return profiles
