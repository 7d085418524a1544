"""`rms-deploy bench`"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rms_deploy.cli.benchmark_output import NOT_DECIDED, form_options, print_result
from rms_deploy.cli.console import is_quiet, progress, status
from rms_deploy.cli.shape_options import dim_option, shape_option

if TYPE_CHECKING:
    from rms_deploy.benchmark.result import BenchmarkResult

__all__ = ["command"]

_RUNTIMES = ("onnxruntime", "onnxruntime-cuda", "torch", "torch-compiled")
_VERIFY_SECONDS = 3600.0
_AT_LEAST_1 = click.IntRange(min=1)
_POSITIVE = click.FloatRange(min=0)


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:  # noqa: ARG001
    return tuple(name.strip() for name in value.split(",") if name.strip()) if value else ()


def _counts(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(count) for count in value.split(","))
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1 or len(set(counts)) < len(counts):
        raise click.BadParameter(f"{value!r}: write different numbers from 1 on, as in 1,2,4", ctx, param)
    return counts


def _sweep(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    sweep: dict[str, tuple[int, ...]] = {}
    for value in values:
        name, equals, sizes = value.rpartition("=")
        try:
            numbers = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            numbers = ()
        if not equals or not name or not numbers or name in sweep:
            raise click.BadParameter(f"{value!r}: write each dimension once, as in seq=1,16,128", ctx, param)
        sweep[name] = numbers
    return sweep


@click.command("bench", short_help="Latency of ONNX models, side by side.")
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--compare",
    metavar="VARIANTS",
    callback=_names,
    help="Measure variants of the only model, made on the spot, a comma between two: original, decomposed, fused, "
    "standard (ONNX's op), onnxruntime (its own op).",
)
@click.option("--runtime", "runtimes", multiple=True, type=click.Choice(_RUNTIMES), help="May be repeated. "
              "[default: onnxruntime; with --module, torch too]")  # fmt: skip
@click.option("--module", help="The torch module of the model: a built-in name, or package.module:factory.")
@click.option("--endpoint", "endpoints", multiple=True, metavar="URL",
              help="A server's model, such as grpc://localhost:8001/decoder. May be repeated.")  # fmt: skip
@shape_option
@dim_option
@click.option(
    "--sweep",
    metavar="NAME=SIZES",
    multiple=True,
    callback=_sweep,
    help="Several sizes of a named dimension, such as seq=1,16,128; of several dimensions, every combination.",
)
@click.option("--inputs", type=click.Path(path_type=Path), help="An .npz file with one array per input.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of random inputs.")
@click.option("--generate", type=_AT_LEAST_1, metavar="N",
              help="Measure N tokens after the prompt, the key-value cache fed back: times per token.")  # fmt: skip
@click.option("--threads", type=_AT_LEAST_1, default=1, show_default=True, help="Of each model.")
@click.option("--concurrency", metavar="N,...", default="1", show_default=True, callback=_counts,
              help="Clients that call at once; of several numbers, such as 1,2,4,8, each is measured.")  # fmt: skip
@click.option("--launches", type=_AT_LEAST_1, default=5, show_default=True,
              help="How often each candidate is started anew; of fewer than 3 no winner is named.")  # fmt: skip
@click.option("--rounds", type=_AT_LEAST_1, default=4, show_default=True,
              help="How often they take turns in each launch.")  # fmt: skip
@click.option("--duration", type=_POSITIVE, default=2.0, show_default=True,
              help="Seconds measured per candidate, over all launches and rounds.")  # fmt: skip
@click.option("--iterations", type=click.IntRange(min=0), default=0, show_default=True,
              help="Runs measured per candidate at least, even if that takes longer, as trtexec does.")  # fmt: skip
@click.option("--warmup", type=_POSITIVE, default=1.0, show_default=True,
              help="Seconds after which the warm-up of a launch ends even if the latency still drifts.")  # fmt: skip
@click.option("--max-time", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="End within this time, loading included, by measuring less; with --ray, each point.")  # fmt: skip
@click.option("--timeout", type=_POSITIVE, default=600.0, show_default=True,
              help="Seconds without an answer after which a candidate has failed.")  # fmt: skip
@click.option("--percentile", "percentiles", type=click.FloatRange(0, 100), multiple=True, default=(90.0, 99.0),
              show_default=True, help="To show beside the median. May be repeated.")  # fmt: skip
@click.option("--cuda-graph/--no-cuda-graph", default=True, show_default=True, help="How engines run.")
@click.option("--no-library", is_flag=True, help="Run without our library: norms inlined, then ONNX Runtime's own.")
@click.option("--also-without-library", is_flag=True, help="Measure models with our ops both ways, as two rows.")
@click.option("--operator-times", "--profile", "operator_times", is_flag=True,
              help="Also measure where the time goes: norms, matrix products, the rest.")  # fmt: skip
@click.option("--verify", "prove", is_flag=True,
              help="Also verify each further model against the first; its verdict is kept.")  # fmt: skip
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="Write a page to this file; implies --operator-times, but with --generate.",
)
@click.option("--ray", metavar="ADDRESS",
              help="Share the points out to the nodes of a Ray cluster: host:port of its head, auto, or local. With "
              "--compare there may be several MODELS; each is measured by itself.")  # fmt: skip
@click.option("--per-machine", is_flag=True, help="With --ray: every point once on each kind of node.")
@click.option("--resume", type=click.Path(path_type=Path),
              help="With --ray: keep each point in this file as soon as it is measured, and measure none again that it "
              "holds.")  # fmt: skip
@form_options
def command(
    models: tuple[Path, ...],
    endpoints: tuple[str, ...],
    concurrency: tuple[int, ...],
    no_library: bool,
    operator_times: bool,
    prove: bool,
    report: Path | None,
    ray: str | None,
    per_machine: bool,
    resume: Path | None,
    form: str | None,
    **options: Any,
) -> None:
    """Measure one run of each of MODELS; the others are compared with the first.

    Each candidate runs in a process of its own, and they take turns on the same inputs; then all are launched anew.
    The first takes part twice, which shows how large noise is here. A candidate that fails, crashes or hangs is
    reported, the others go on, and the exit code is 1; it is 3 where there were too few launches to tell a difference
    from noise. An endpoint's latency is that of a client here; beside it stand the times that the server itself counts,
    queue and compute.
    """
    if ray is None and (per_machine or resume is not None):
        raise click.UsageError("--per-machine and --resume go with --ray; --ray local is this machine")
    if ray is not None and (endpoints or len(concurrency) > 1):
        raise click.UsageError("--endpoint and several --concurrency are measured from here; leave out --ray")
    others = [*map(str, models[1:]), *endpoints]
    if prove and (not others or ray is not None):
        raise click.UsageError("--verify takes two models or more, and no --ray; of one, run rms-deploy fuse first")
    from rms_deploy.benchmark.method import Method
    from rms_deploy.runtime.endpoint import Endpoint

    if report is not None:
        from rms_deploy.benchmark.report.page import write_page
        from rms_deploy.output_file import check_output

        if report.resolve() in [path.resolve() for path in models]:
            raise click.UsageError("--report would take the place of a model; give another name")
        check_output(report)
    options["concurrency"] = concurrency[0]
    method = Method(**{field.name: options.pop(field.name) for field in fields(Method)})
    options |= {"method": method, "library": not no_library, "operator_times": operator_times}
    options["operator_times"] |= report is not None and method.generate is None
    with progress("reading the models") as on_progress:
        if ray is None:
            from rms_deploy.benchmark.bench import bench

            result = bench(
                [*models, *(Endpoint.of(url).url for url in endpoints)],
                concurrency=concurrency if len(concurrency) > 1 else (),
                on_progress=on_progress,
                **options,
            )
        else:
            from rms_deploy.deployment.sweep import sweep

            result = sweep(models, ray=ray, per_machine=per_machine, resume=resume, on_progress=on_progress, **options)
    if prove:
        result = _verified(result, str(models[0]), others, options)
    print_result(result, form, quiet=is_quiet())  # first: a page that cannot be written must not lose the figures
    if report is not None:
        write_page(result, report)
    differs = any(found["passed"] is not True for found in result.verifications)
    if result.failed or differs or result.undecided:
        raise SystemExit(1 if result.failed or differs else NOT_DECIDED)


def _verified(
    result: BenchmarkResult, first: str, others: Sequence[str], options: Mapping[str, Any]
) -> BenchmarkResult:
    """The result with what `verify` finds on the inputs of its first point; its figures outlive a failure."""
    from rms_deploy.errors import RmsDeployError
    from rms_deploy.verification.verify import verify

    given: dict[str, Any] = {"inputs": options["inputs"]} if options["inputs"] else {"shapes": result.shapes}
    found: list[Mapping[str, Any]] = []
    for other in others:
        with status(f"verifying {other}"):
            try:
                found.append(verify(first, other, seed=result.method.seed, timeout=_VERIFY_SECONDS, **given).to_dict())
            except RmsDeployError as error:
                failed = {"passed": None, "verdict": f"not verified: {error}"}
                found.append({"reference": {"model": first}, "candidate": {"model": other}, **failed})
    return replace(result, verifications=tuple(found))
