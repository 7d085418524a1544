"""Try random models, valid or damaged, and count what comes of it.

    python tests/fuzz/run.py --kind bytes --count 100000 --report fuzz.json

A seed is one model, always the same. A run goes on where the last one with this report ended, and adds to its counts.
The exit code is 1 if anything failed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import click

sys.path.append(str(Path(__file__).resolve().parents[1]))

from fuzz.page import write_page
from fuzz.pool import outcomes
from fuzz.report import KindReport, Report
from fuzz.trials import KINDS, Outcome

_PATH = click.Path(path_type=Path)
_PACKAGES = ("numpy", "onnx", "onnx-ir", "onnxruntime")


@click.command()
@click.option("--kind", type=click.Choice(KINDS), multiple=True, help="What to try; default: all, one after the other.")
@click.option("--count", type=click.IntRange(0), default=1000, show_default=True, help="Number of seeds of each kind.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The first one.")
@click.option("--only", type=click.IntRange(0), multiple=True, help="Just this seed; may be repeated.")
@click.option("--again", is_flag=True, help="Just the seeds that failed: marks what is mended.")
@click.option("--report", type=_PATH, required=True, help="JSON file that the counts are added to.")
@click.option("--keep", type=_PATH, help="Folder for the files of what fails.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option("--every", type=click.IntRange(1), default=500, show_default=True, help="Trials per line of progress.")
@click.option("--write-docs", type=_PATH, help="Write the counts as a page, such as docs/reliability.md.")
def main(
    kind: tuple[str, ...],
    count: int,
    seed: int,
    only: tuple[int, ...],
    again: bool,
    report: Path,
    keep: Path | None,
    workers: int,
    every: int,
    write_docs: Path | None,
) -> None:
    """Try COUNT seeds of each kind from SEED on; those that the report has are left out."""
    counts = Report.read(report)
    counts.versions = {name: version(name) for name in _PACKAGES}
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in kind or KINDS:
        part = counts.kinds[name]
        seeds = part.failed_seeds() if again else only or part.remaining(seed, count)
        tried = outcomes(name, iter(seeds), workers=workers, keep=keep)
        try:
            failed += _again(part, tried) if again else _run(counts, part, tried, report, every)
        finally:
            counts.write(report)
    if write_docs is not None:
        write_page(counts, write_docs)
    raise SystemExit(bool(failed))


def _run(counts: Report, part: KindReport, tried: Iterable[Outcome], report: Path, every: int) -> int:
    began, number, failed = time.monotonic(), 0, 0
    for number, outcome in enumerate(tried, 1):
        if part.add(outcome):
            _say(outcome)
        failed += outcome.failed
        if number % every == 0:
            counts.write(report)
            _progress(number, failed, part, time.monotonic() - began)
    _progress(number, failed, part, time.monotonic() - began)
    return failed


def _again(part: KindReport, tried: Iterable[Outcome]) -> int:
    failing = set()
    for outcome in tried:
        if outcome.failed:
            failing.add(outcome.seed)
            _say(outcome)
    part.mend(failing)
    return len(failing)


def _say(outcome: Outcome) -> None:
    click.echo(f"seed {outcome.seed}: {outcome.error} | {outcome.frame}: {outcome.detail}"[:400])


def _progress(number: int, failed: int, part: KindReport, seconds: float) -> None:
    rate = number / max(seconds, 1e-9)
    click.echo(
        f"{number} tried in {seconds:.0f} s ({rate:.0f}/s), {failed} failed; {part.tried} in the report", err=True
    )


if __name__ == "__main__":
    main()
