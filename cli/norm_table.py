"""Norms and near misses as tables: drawn on a terminal, plain columns in a pipe."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from rms_deploy.cli.arguments import with_flags
from rms_deploy.cli.table import print_table

if TYPE_CHECKING:
    from rms_deploy.fusion.near_miss import NearMiss
    from rms_deploy.fusion.norm import Norm

__all__ = ["near_misses", "print_near_misses", "print_norms"]


def near_misses(count: int) -> str:
    """`count` near misses, in words."""
    return f"{count} near miss" if count == 1 else f"{count} near misses"


def print_norms(norms: Iterable[Norm]) -> None:
    """One line a norm."""
    header = ("place", "norm", "n", "axes", "dtype", "epsilon", "rounding", "scale", "state", "ulp")
    _print(header, [_norm_row(norm) for norm in norms])


def print_near_misses(misses: Iterable[NearMiss]) -> None:
    """One line a near miss, with its reason."""
    header = ("near miss", "piece", "reason")
    _print(header, [(miss.node, miss.piece, _with_flags_of_fuse(miss.reason)) for miss in misses])


def _norm_row(norm: Norm) -> tuple[str, ...]:
    kind = norm.kind if norm.partial_size is None else f"{norm.kind} ({norm.partial_size})"
    epsilon = "?" if norm.epsilon is None else f"{norm.epsilon:.6g}"
    if norm.rms_epsilon:
        epsilon += f", outside {norm.rms_epsilon:.6g}"
    if norm.rms_min:
        epsilon += f", at least {norm.rms_min:.6g}"
    return (
        norm.place or norm.node,
        kind,
        "?" if norm.n is None else str(norm.n),
        "?" if norm.axes is None else "" if norm.axes == (-1,) else ",".join(map(str, norm.axes)),
        norm.dtype or "?",
        epsilon,
        norm.rounding or "",
        norm.scale,
        f"{norm.form}: {_with_flags_of_fuse(norm.note)}" if norm.note else norm.form,
        "" if norm.max_ulp is None else str(norm.max_ulp),
    )


def _with_flags_of_fuse(text: str) -> str:
    """What is said of a norm names arguments of `fuse`, also where another command prints it."""
    context = click.get_current_context(silent=True)
    group = context.find_root().command if context else None
    if context is None or not isinstance(group, click.Group):
        return text
    return with_flags(text, group.get_command(context, "fuse"))


def _print(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    if rows:
        print_table(header, rows, left=len(header))
