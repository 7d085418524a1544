"""Norms and near misses as tables on stdout."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from rms_deploy.cli.arguments import with_flags
from rms_deploy.cli.table import print_table

if TYPE_CHECKING:
    from rms_deploy.display import Table
    from rms_deploy.fusion.near_miss import NearMiss
    from rms_deploy.fusion.norm import Norm

__all__ = ["near_misses", "print_near_misses", "print_norms"]


def near_misses(count: int) -> str:
    """`count` near misses, in words."""
    return f"{count} near miss" if count == 1 else f"{count} near misses"


def print_norms(norms: Iterable[Norm], *, full: bool = False) -> None:
    """One line a norm; the norms of repeated layers share one unless `full`."""
    from rms_deploy.fusion.norm_tables import norm_table

    print_table(_with_flags_of_fuse(norm_table(norms, full=full)))


def print_near_misses(misses: Iterable[NearMiss], *, full: bool = False) -> None:
    """One line a near miss, with its reason; those of repeated layers share one unless `full`."""
    from rms_deploy.fusion.norm_tables import near_miss_table

    print_table(_with_flags_of_fuse(near_miss_table(misses, full=full)))


def _with_flags_of_fuse(table: Table) -> Table:
    """What is said of a norm names arguments of `fuse`, also where another command prints it."""
    context = click.get_current_context(silent=True)
    group = context.find_root().command if context else None
    if context is None or not isinstance(group, click.Group):
        return table
    fuse = group.get_command(context, "fuse")
    return replace(table, rows=[[with_flags(cell, fuse) for cell in row] for row in table.rows])
