"""`rms-deploy build`"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rms_deploy.cli.arguments import with_flags
from rms_deploy.cli.console import is_quiet, json_option, print_json, progress, say, stderr
from rms_deploy.cli.optimization_profile_options import optimization_profile_options, optimization_profiles_of
from rms_deploy.cli.table import print_table

if TYPE_CHECKING:
    from rms_deploy.engine.record import EngineRecord

__all__ = ["command"]

_NORM_HELP = (
    "What the fused norms become: our plugin; TensorRT's own layers, statistics in float32; or both are built and "
    "timed on this GPU, and the faster is kept (without a GPU: decomposed)."
)


def _devices(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:  # noqa: ARG001
    return tuple(device.strip() for device in (value or "").split(",") if device.strip())


_TYPES = {"--fp16": "float16", "--bf16": "bfloat16"}


def _no_type(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        raise click.UsageError(
            f"{param.opts[0]}: an engine has the types of its model; convert that first, as by "
            f"`rms-deploy cast in.onnx -o out.onnx --to {_TYPES[param.opts[0]]}`",
            ctx,
        )


@click.command("build", short_help="A TensorRT or TensorRT-RTX engine from an ONNX model.")
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option("--onnx", type=click.Path(path_type=Path), help="MODEL, as trtexec takes it.")
@click.option(
    "-o", "--output", "--saveEngine", type=click.Path(path_type=Path), help="The engine; default MODEL.engine, here."
)
@click.option("--runtime", type=click.Choice(["tensorrt", "tensorrt-rtx"]), help="[default: what is installed]")
@click.option(
    "--norm", type=click.Choice(["plugin", "decomposed", "auto"]), default="auto", show_default=True, help=_NORM_HELP
)
@optimization_profile_options
@click.option(
    "--device",
    "devices",
    metavar="SM,...",
    callback=_devices,
    help="Of TensorRT-RTX: build for these GPUs, such as sm120,sm89; none needs to be here. [default: all it knows]",
)
@click.option("--fp16", is_flag=True, hidden=True, expose_value=False, callback=_no_type)
@click.option("--bf16", is_flag=True, hidden=True, expose_value=False, callback=_no_type)
@click.option("--workspace", type=click.IntRange(min=1), metavar="MIB", help="Device memory that layers may use.")
@click.option(
    "--timing-cache", "--timingCacheFile", type=click.Path(path_type=Path), help="Read if it is there, and updated."
)
@click.option(
    "--opt-level", "--builderOptimizationLevel", type=click.IntRange(0, 5), help="How long to look for faster layers."
)
@click.option("--version-compatible", "--versionCompatible", is_flag=True, help="Also for later versions of TensorRT.")
@click.option("--hardware-compatible", is_flag=True, help="Also for other GPUs, from Ampere on.")
@click.option("--strip-weights", "--stripWeights", is_flag=True, help="Leave out the weights that a refit puts back.")
@click.option("--refit", is_flag=True, help="Let the weights be replaced later.")
@click.option(
    "--embed-plugin/--no-embed-plugin",
    default=True,
    show_default=True,
    help="Write the plugin library into the engine.",
)
@click.option("--ray", metavar="ADDRESS",
              help="Build for each GPU type of a Ray cluster, on a node that has it: host:port of its head, auto, or "
              "local. -o is then a folder for engines and their index.json; default MODEL-engines, here.")  # fmt: skip
@json_option
def command(
    model: Path | None,
    onnx: Path | None,
    output: Path | None,
    optimization_profiles: list[Any],
    min_shapes: list[Any],
    opt_shapes: list[Any],
    max_shapes: list[Any],
    ray: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Build an engine from MODEL, a fused ONNX file, and prove how its norms run.

    TensorRT-RTX builds without a GPU. The file ENGINE.json records what was built. Options in the spelling of trtexec
    are trtexec's own.
    """
    profiles = optimization_profiles_of(
        optimization_profiles, min_shapes=min_shapes, opt_shapes=opt_shapes, max_shapes=max_shapes
    )
    file = model or onnx
    if file is None or (model and onnx):
        raise click.UsageError("Give MODEL or --onnx, one of them.")
    if ray is not None:
        options |= {"optimization_profiles": profiles}
        _build_for_gpus(file, output or Path(f"{file.stem}-engines"), ray, options, as_json=as_json)
        return
    from rms_deploy import build

    output = output or Path(f"{file.stem}.engine")
    with _progress(f"building {output}") as on_progress:
        record = build(file, output, optimization_profiles=profiles, on_progress=on_progress, **options)
    if as_json:
        print_json(record.to_dict())
    else:
        _print_record(record)
    if not is_quiet():
        for note in record.notes:
            stderr.print(f"note: {with_flags(note)}", markup=False, soft_wrap=True)


def _build_for_gpus(model: Path, folder: Path, ray: str, options: dict[str, Any], *, as_json: bool) -> None:
    """Build an engine for each GPU type, print what was built, and raise what the exit code says."""
    from rms_deploy import build_for_gpus

    with progress() as on_progress:
        result = build_for_gpus(model, folder, ray=ray, on_progress=on_progress, **options)
    if as_json:
        print_json({"folder": str(folder), **result.to_dict()})
    else:
        for table in result.tables():
            print_table(table)
        for engine in result.failed:
            say(f"{engine.gpu_type} FAILED: {with_flags(engine.failure or '')}")
        count = len(result.engines) - len(result.failed)
        say(f"built {count} of {len(result.engines)} engines -> {folder}")
    if result.failed:
        raise click.ClickException(f"{model}: no engine for {', '.join(engine.gpu_type for engine in result.failed)}")


@contextmanager
def _progress(title: str) -> Iterator[Callable[[float, str], None] | None]:
    """A live bar on stderr; where that is no terminal, a line for each phase; nothing with -q."""
    if is_quiet():
        yield None
        return
    if not stderr.is_terminal:
        stderr.print(title, markup=False, soft_wrap=True)
        seen: list[str] = []

        def line(_fraction: float, phase: str) -> None:
            if phase not in seen:
                seen.append(phase)
                stderr.print(f"  {phase}", markup=False, soft_wrap=True)

        yield line
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    with Progress(*columns, console=stderr, transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda fraction, phase: bar.update(task, completed=fraction, description=phase)


def _print_record(record: EngineRecord) -> None:
    for table in record.tables():
        print_table(table)
    kind = "decomposed, no plugin layers" if record.norm == "decomposed" else "plugin layers"
    count = record.norm_count if record.norm == "decomposed" else record.plugin_count
    norms = f"norms: {count} of {record.norm_count} are {kind} ({record.reason})"
    devices = ", ".join(record.devices) or "the runtime's choice of devices"
    size = f"{record.bytes / 2**20:.1f} MiB in {record.seconds:.1f} s"
    say(f"built {record.engine} ({record.runtime} {record.runtime_version}, {devices}, {size})\n{norms}")
