"""`rms-deploy demo`"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from rms_deploy.cli.console import is_quiet, progress, status, stdout

if TYPE_CHECKING:
    from rms_deploy.benchmark.result import BenchmarkResult

__all__ = ["command"]

_NORM = "norm-4096"
_DURATION = 2.0
_SHAPES = {
    "llama-tiny": {"input_ids": (1, 16)},
    "llama-small": {"input_ids": (1, 128)},
    _NORM: {"x": (128, 4096)},
}


@click.command("demo", short_help="Export, fuse, verify and measure a small decoder.")
@click.option(
    "--model",
    type=click.Choice(["llama-tiny", "llama-small"]),
    default="llama-tiny",
    show_default=True,
    help="The built-in decoder.",
)
@click.option("--keep", type=click.Path(path_type=Path), help="Leave the ONNX files in this folder.")
def command(model: str, keep: Path | None) -> None:
    """Export a small decoder as users' files look, fuse its norms, prove it equal and measure what that gained.

    The fused model is measured twice: with our library, and with ONNX Runtime's own kernels, so that each gain is told
    apart. Then the same for one RMSNorm of 128 x 4096 on its own. Each step is shown as the command that does it.
    """
    with _inside(keep):
        for name in (model, _NORM):
            _run(name)


@contextmanager
def _inside(keep: Path | None) -> Iterator[None]:
    """In the folder `keep`, or in one that vanishes, so that the files have the names that the commands show."""
    from rms_deploy.errors import OutputError

    before = Path.cwd()
    with TemporaryDirectory(prefix="rms-deploy-demo-") as temporary:
        folder = keep or Path(temporary)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be a folder: {error.strerror}") from error
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def _run(model: str) -> None:
    from rms_deploy import export
    from rms_deploy.benchmark.bench import bench
    from rms_deploy.benchmark.method import Method
    from rms_deploy.cli.benchmark_output import print_benchmark
    from rms_deploy.cli.fuse import print_fusion
    from rms_deploy.cli.verify import print_verification
    from rms_deploy.fusion.fuse import fuse
    from rms_deploy.verification.verify import verify

    shapes = _SHAPES[model]
    text = " ".join(f"--shape {name}={'x'.join(map(str, sizes))}" for name, sizes in shapes.items())
    plain, fused = Path(f"{model}.onnx"), Path(f"{model}-fused.onnx")
    _show(f"export {model} --norm decomposed -o {plain}")
    with status("exporting (torch takes some seconds)"):
        export(model, plain, norm="decomposed")
    _show(f"fuse {plain} -o {fused}")
    print_fusion(fuse(plain, fused), fused)
    _show(f"verify {plain} {fused} {text}")
    with status("verifying"):
        verification = verify(plain, fused, shapes=shapes)
    print_verification(verification, quiet=True)
    options = f"--also-without-library --duration {_DURATION:g}"
    _show(f"bench {plain} {fused} {text} {options}")
    with progress() as on_progress:
        result = bench(
            [plain, fused],
            shapes=shapes,
            also_without_library=True,
            method=Method(duration=_DURATION),
            on_progress=on_progress,
        )
    print_benchmark(result, quiet=is_quiet())
    if model == _NORM:
        _print_throughput(result)
    stdout.print()
    if result.failed or not verification.passed:
        raise SystemExit(1)


def _print_throughput(result: BenchmarkResult) -> None:
    """The bytes of x read and those of y written, over the median: what the memory must at least move."""
    moved = 2 * 4 * math.prod(_SHAPES[_NORM]["x"])
    for candidate in result.candidates:
        if candidate.latency is not None:
            how = "" if candidate.library else " without our library"
            speed = moved / candidate.latency.median / 1e3
            stdout.print(f"{candidate.model}{how}: {speed:.1f} GB/s of x and y", markup=False, soft_wrap=True)


def _show(arguments: str) -> None:
    if not is_quiet():
        stdout.print(f"$ rms-deploy {arguments}", markup=False, style="bold", soft_wrap=True)
