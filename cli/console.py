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
def progress(first: str = "starting") -> Iterator[Callable[[int, int, str], None] | None]:
    """For the `on_progress` of a function: a bar on stderr, lines where that is no terminal, nothing with -q.

    Args:
        first: what is done before the first step.
    """
    if is_quiet():
        yield None
        return
    from rms_deploy.cli.progress_display import bar, lines

    with bar(stderr, first) if stderr.is_terminal else lines(stderr, first) as on_progress:
        yield on_progress
