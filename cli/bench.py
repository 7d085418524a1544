"""`rms-deploy bench`"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rms_deploy.cli.console import is_quiet, json_option, print_json, stderr, stdout
from rms_deploy.cli.shape_options import as_text, dim_option, shape_option
from rms_deploy.cli.table import print_table

if TYPE_CHECKING:
    from rms_deploy.benchmark_result import BenchmarkResult, Candidate

__all__ = ["command", "print_benchmark", "progress"]


@click.command("bench", short_help="Latency of ONNX models, side by side.")
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@shape_option
@dim_option
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of each model.")
@click.option("--rounds", type=click.IntRange(min=1), default=10, show_default=True, help="How often they take turns.")
@click.option("--seconds", type=click.FloatRange(min=0), default=2.0, show_default=True, help="Measured per model.")
@click.option("--warmup", type=click.FloatRange(min=0), default=0.5, show_default=True, help="Seconds before that.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the random inputs.")
@click.option("--no-library", is_flag=True, help="Run without our library: norms inlined, then ONNX Runtime's own.")
@click.option("--also-without-library", is_flag=True, help="Measure models with our ops both ways, as two rows.")
@json_option
def command(
    models: tuple[Path, ...],
    shapes: dict[str, tuple[int, ...]],
    dims: dict[str, int],
    threads: int,
    rounds: int,
    seconds: float,
    warmup: float,
    seed: int,
    no_library: bool,
    also_without_library: bool,
    as_json: bool,
) -> None:
    """Measure one run of each of MODELS on ONNX Runtime's CPU provider; the others are compared with the first.

    Each model runs in a process of its own, and they take turns on the same inputs. A model that fails or crashes is
    reported, the others go on, and the exit code is 1.
    """
    from rms_deploy.benchmark import bench

    with progress() as on_progress:
        result = bench(
            models,
            threads=threads,
            rounds=rounds,
            seconds=seconds,
            warmup=warmup,
            shapes=shapes,
            dims=dims,
            seed=seed,
            library=not no_library,
            also_without_library=also_without_library,
            on_progress=on_progress,
        )
    if as_json:
        print_json(result.to_dict())
    else:
        print_benchmark(result, quiet=is_quiet())
    if result.failed:
        raise SystemExit(1)


@contextmanager
def progress() -> Iterator[Callable[[int, int, str], None] | None]:
    """A bar on stderr for `bench(on_progress=)`; none where stderr is no terminal, or with -q."""
    if is_quiet() or not stderr.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=stderr, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what)


def print_benchmark(result: BenchmarkResult, *, quiet: bool = False) -> None:
    """The latency of each model, each failure, and how it was measured; `quiet`: without the last."""
    header = ("model", "median", "p10", "p90", "p99", "times faster", "95 % interval", "verdict")
    rows = [
        (_name(candidate, result), *_row(candidate)) for candidate in result.candidates if candidate.latency is not None
    ]
    if rows:
        print_table(header, rows)
    for candidate in result.candidates:
        if candidate.failure is not None:
            text = f"{_name(candidate, result)} FAILED: {candidate.failure}"
            stdout.print(text, markup=False, soft_wrap=True, style="bold red")
    if quiet:
        return
    here, versions = result.machine, ", ".join(f"{name} {number}" for name, number in result.versions.items())
    stdout.print(
        f"one run of each, {result.threads} thread{'s' * (result.threads > 1)}, {as_text(result.shapes)}; "
        f"{result.rounds} rounds in turns, {result.seconds:g} s each in all, after {result.warmup:g} s of warm-up\n"
        f"{here.cpu}, {here.usable_cores} of {here.cores} cores, load {here.load} before; {versions}",
        markup=False,
        soft_wrap=True,
    )


def _row(candidate: Candidate) -> tuple[str, ...]:
    latency, speedup = candidate.latency, candidate.speedup
    assert latency is not None, candidate.model
    times = (latency.median, latency.p10, latency.p90, latency.p99)
    compared = ("", "", "")
    if speedup is not None:
        interval = "" if speedup.low is None else f"{speedup.low:.2f} ... {speedup.high:.2f}"
        compared = f"{speedup.value:.2f}x", interval, speedup.verdict
    return *map(_duration, times), *compared


def _name(candidate: Candidate, result: BenchmarkResult) -> str:
    """The model, and how it ran where the others did not run so."""
    return candidate.model if candidate.library or not result.library else f"{candidate.model} without our library"


def _duration(microseconds: float) -> str:
    if microseconds < 1000:
        return f"{microseconds:.1f} us"
    return f"{microseconds / 1000:.2f} ms" if microseconds < 1e6 else f"{microseconds / 1e6:.2f} s"
