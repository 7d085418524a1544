"""What every command prints with: results on stdout, progress and logs on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console

__all__ = ["is_quiet", "json_option", "print_json", "progress", "status", "stderr", "stdout"]

stdout = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)

json_option: Callable[..., Any] = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def print_json(result: dict[str, Any]) -> None:
    """One JSON document on stdout, whatever the terminal."""
    click.echo(json.dumps(result, indent=2))


def is_quiet() -> bool:
    """Whether `rms-deploy -q` was asked for."""
    context = click.get_current_context(silent=True)
    return bool(context and context.find_root().params.get("quiet"))


@contextmanager
def status(message: str) -> Iterator[None]:
    """A spinner on stderr while the block runs; one plain line where stderr is no terminal."""
    if is_quiet():
        yield
    elif stderr.is_terminal:
        with stderr.status(message):
            yield
    else:
        stderr.print(message, markup=False)
        yield


@contextmanager
def progress() -> Iterator[Callable[[int, int, str], None] | None]:
    """A bar on stderr for the `on_progress` of a function; none where stderr is no terminal, or with -q."""
    if is_quiet() or not stderr.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=stderr, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what)
