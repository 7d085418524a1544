"""`rms-deploy bench-op`"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from rms_deploy.cli.console import is_quiet, json_option, print_json, progress, say
from rms_deploy.cli.table import print_table

if TYPE_CHECKING:
    from rms_deploy.benchmark.op.result import OpBenchmarkResult

__all__ = ["command", "print_op_benchmark"]


@click.command("bench-op", short_help="One norm: our kernels beside other runtimes'.")
@click.option(
    "--shape", "shapes", multiple=True, metavar="16x4096", help="Of X; 1x256x56x56@1 for axis 1.  [default: ten]"
)
@click.option(
    "--dtype", "dtypes", multiple=True, type=click.Choice(["float32", "float16", "bfloat16"]), help="[default: all]"
)
@click.option(
    "--op",
    "ops",
    multiple=True,
    type=click.Choice(["norm", "add-norm", "norm-gate", "gate-norm", "norm-shift", "add-float32-norm"]),
    help="norm-gate: a gate behind the norm; gate-norm: in front of it; add-float32-norm: of the unrounded sum.  "
    "[default: norm, add-norm]",
)
@click.option(
    "--kernel",
    "kernels",
    multiple=True,
    help="By name, or the first word of names, as ort.  [default: all but torch compiled]",
)
@click.option(
    "--threads", multiple=True, type=click.IntRange(min=1), default=(1,), show_default=True, help="Of each run."
)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="How often they take turns.")
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), default=0.2, show_default=True,
              help="Seconds per kernel and case, over all rounds.")  # fmt: skip
@json_option
def command(
    shapes: tuple[str, ...],
    dtypes: tuple[str, ...],
    ops: tuple[str, ...],
    kernels: tuple[str, ...],
    threads: tuple[int, ...],
    rounds: int,
    duration: float,
    as_json: bool,
) -> None:
    """Time single norms on the CPU: our ops, ONNX Runtime's own, torch's and OpenVINO's where they are installed.

    Each kernel runs in a process of its own, in turns, and beside each run the same tensor is copied: `copies` says
    how many such copies a run takes. 1 is the limit of a norm that reads and writes every element once;
    1.5 is that of one with a gate, whose Z is read too and not copied.
    """
    from rms_deploy.benchmark.op.bench_op import DEFAULT_KERNELS, SHAPES, bench_op
    from rms_deploy.benchmark.op.cases import USUAL_OPS
    from rms_deploy.benchmark.op.other_kernels import KERNELS

    known = [name for name in KERNELS if {name, re.split(r"\W", name)[0]} & set(kernels)]
    with progress() as on_progress:
        result = bench_op(
            shapes=shapes or SHAPES,
            dtypes=dtypes or ("float32", "float16", "bfloat16"),
            ops=ops or USUAL_OPS,
            kernels=known or kernels or DEFAULT_KERNELS,
            threads=threads,
            rounds=rounds,
            duration=duration,
            on_progress=on_progress,
        )
    if as_json:
        print_json(result.to_dict())
    else:
        print_op_benchmark(result, quiet=is_quiet())


def print_op_benchmark(result: OpBenchmarkResult, *, quiet: bool = False) -> None:
    """One table of all cases, what could not run, and how it was measured; `quiet`: the table alone."""
    for table in result.tables():
        print_table(table)
    if quiet:
        return
    for kernel, failure in dict.fromkeys((t.kernel, t.failure) for t in result.timings if t.failure):
        say(f"{kernel}: not everywhere: {failure}")
    say(
        f"{result.rounds} rounds in turns, {result.duration:g} s each in all; copy: numpy, one thread\n"
        f"{result.provenance.sentence()}\n"
        f"{result.provenance.date}  {result.provenance.command}"
    )
