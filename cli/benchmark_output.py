"""A benchmark's result on stdout, and as a page: for `bench` and `report`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from rms_deploy.cli.arguments import with_flags
from rms_deploy.cli.console import print_json, stdout
from rms_deploy.cli.table import print_table

if TYPE_CHECKING:
    from rms_deploy.benchmark.result import BenchmarkResult

__all__ = ["NOT_DECIDED", "form_options", "print_benchmark", "print_result"]

NOT_DECIDED = 3
"""The exit code where candidates could not be compared, or had too few launches for a verdict."""


def form_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`, `--markdown`, `--csv`: what is printed instead of the table."""
    for name, what in (("csv", "as CSV, with plain numbers"), ("markdown", "as Markdown"), ("json", "as JSON")):
        command = click.option(f"--{name}", "form", flag_value=name, help=f"Print the result {what}.")(command)
    return command


def print_result(result: BenchmarkResult, form: str | None, *, quiet: bool = False) -> None:
    """In the form that was asked for."""
    if form == "json":
        print_json(result.to_dict())
    elif form is not None:
        from rms_deploy.benchmark.report.table import as_csv, as_markdown

        click.echo({"csv": as_csv, "markdown": as_markdown}[form](result), nl=False)
    else:
        print_benchmark(result, quiet=quiet)


def print_benchmark(result: BenchmarkResult, *, quiet: bool = False) -> None:
    """The latency of each candidate, each failure, and how it was measured; `quiet`: without the last."""
    from rms_deploy.benchmark.report import table
    from rms_deploy.benchmark.report.summary import summary

    rows = table.rows(result)
    if rows:
        print_table(table.header(result), rows)
    shares = table.category_shares(result)
    if shares:
        print_table(table.SHARES_HEADER, shares)
    for line in table.failures(result):
        stdout.print(with_flags(line), markup=False, soft_wrap=True, style="bold red" if " FAILED: " in line else "")
    if quiet:
        return
    for line in summary(result):
        stdout.print(with_flags(line), markup=False, soft_wrap=True, style="bold")
    for line in table.provenance(result):
        stdout.print(line, markup=False, soft_wrap=True)
