"""`rms-deploy report`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rms_deploy.cli.benchmark_output import NOT_DECIDED, form_options, print_result
from rms_deploy.cli.console import is_quiet, print_json, stdout
from rms_deploy.cli.table import print_table

if TYPE_CHECKING:
    from rms_deploy.benchmark.report.regression import RunComparison

__all__ = ["command"]


def _percent(ctx: click.Context, param: click.Parameter, value: str) -> float:
    try:
        number = float(value.removesuffix("%"))
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise click.BadParameter(f"{value!r} is no percentage; write it as 5%", ctx, param)
    return number / 100


@click.command("report", short_help="A saved benchmark as a page or table, or what changed between two.")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--html", type=click.Path(path_type=Path), help="Write the page of a run to this file.")
@click.option(
    "--max-regression",
    callback=_percent,
    default="5%",
    show_default=True,
    help="How much a median may grow from the first run to the second.",
)
@form_options
def command(runs: tuple[Path, ...], html: Path | None, max_regression: float, form: str | None) -> None:
    """Show RUNS, one or two files that `rms-deploy bench --json` printed.

    One run is shown as a table, or as a page. Of two, such as those of two releases, each candidate of the second is
    compared with that of the first; the exit code is 1 if one became slower by more than --max-regression, and by
    more than the noise, or fails and did not before. It is 3 if one is not in both runs, or had too few launches.
    """
    from rms_deploy.benchmark.result_file import read_benchmark

    if len(runs) > 2:
        raise click.UsageError(f"{len(runs)} runs were given; give one to be shown, or two to be compared")
    if html is not None and html.resolve() in [path.resolve() for path in runs]:
        raise click.UsageError("--html would take the place of the run; give another name")
    results = [read_benchmark(path) for path in runs]
    if len(runs) == 1:
        if html is not None:
            from rms_deploy.benchmark.report.page import write_page

            write_page(results[0], html)
        if html is None or form is not None:
            print_result(results[0], form, quiet=is_quiet())
        return
    from rms_deploy.benchmark.report.regression import compare_runs

    if html is not None or form not in (None, "json"):
        raise click.UsageError("--html, --markdown and --csv show one run; two are compared as a table or as --json")
    comparison = compare_runs(*results, max_regression=max_regression)
    if form == "json":
        print_json(comparison.to_dict())
    else:
        _print(comparison)
    if comparison.regressed or comparison.undecided:
        raise SystemExit(1 if comparison.regressed else NOT_DECIDED)


def _print(comparison: RunComparison) -> None:
    from rms_deploy.benchmark.report.numbers import duration

    rows = [
        (
            change.candidate,
            change.at,
            *("" if median is None else duration(median) for median in (change.before, change.after)),
            "" if change.change is None else f"{100 * change.change:+.1f} %",
            change.verdict,
        )
        for change in comparison.changes
    ]
    print_table(("candidate", "at", "before", "after", "change", "verdict"), rows)
    for warning in comparison.warnings:
        stdout.print(f"the runs differ: {warning}", markup=False, soft_wrap=True)
    verdict = "regression" if comparison.regressed else "no regression"
    limit = f"{100 * comparison.max_regression:g} %"
    if comparison.undecided:
        verdict = f"not all candidates were compared; {verdict}"
    stdout.print(f"{verdict} beyond {limit} and beyond the noise of both runs", markup=False, soft_wrap=True)
