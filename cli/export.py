"""`rms-deploy export`"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rms_deploy.cli.console import is_quiet, json_option, print_json, say, status, stderr
from rms_deploy.cli.norm_table import near_misses

if TYPE_CHECKING:
    from rms_deploy.exporter.result import ExportResult

__all__ = ["command"]


@click.command("export", short_help="A PyTorch model to ONNX, each RMSNorm as one op.")
@click.argument("model", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The ONNX file; default NAME.onnx, here.")
@click.option("--dtype", metavar="[float32|float16|bfloat16]", help="Convert weights and inputs; default: as they are.")
@click.option("--opset", type=int, help="Of the ONNX operators; default 20, or 23 for --norm standard.")
@click.option(
    "--norm",
    type=click.Choice(["fused", "standard", "decomposed"]),
    default="fused",
    show_default=True,
    help="Our ops with function bodies, residual Adds included; ONNX RMSNormalization (opset 23); or primitives.",
)
@click.option(
    "--model-norm",
    metavar="[rmsnorm|prmsnorm[:P]|layernorm|none]",
    help="Kind of norm in a built-in model, P the fraction that pRMSNorm reads; default rmsnorm.",
)
@click.option(
    "--with-past", is_flag=True, help="Of a folder: with its key-value cache, prefill and decode in one file."
)
@click.option("--random-weights", is_flag=True, help="Of a folder: the sizes of its config.json, seeded weights.")
@click.option(
    "--swap/--no-swap",
    default=None,
    help="First replace RMSNorm modules of torch and others by ours, where running them proves their convention. "
    "[default: unless --norm is decomposed]",
)
@click.option("--static", is_flag=True, help="Fix every size to that of the example inputs.")
@click.option(
    "--exporter",
    type=click.Choice(["dynamo", "legacy"]),
    default="dynamo",
    show_default=True,
    help="Of torch; legacy (TorchScript) can write --norm decomposed only.",
)
@click.option("--list", "list_models", is_flag=True, help="Print the built-in models, one a line.")
@json_option
def command(
    model: str | None, output: Path | None, list_models: bool, as_json: bool, static: bool, **options: Any
) -> None:
    """Export MODEL to ONNX: a built-in one by name, your own as package.module:factory, or a Hugging Face folder.

    The factory takes no argument and returns (module, example inputs[, dynamic shapes[, output names]]); it may lie in
    the current folder. With --model-norm it is called as factory(norm=...). A folder holds config.json and safetensors.

    The norms are those of rms_deploy.nn and, with --swap, the RMSNorm modules of others. Norms that the code of the
    model spells out stay primitives: they are counted, and rms-deploy fuse makes ops of them.
    """
    if list_models:
        _print_models(as_json)
        return
    if model is None:
        raise click.UsageError("Missing argument 'MODEL'; --list prints the built-in ones.")
    output = output or _default_output(model)
    with status(f"exporting {model}"):
        from rms_deploy import export

        result = export(model, output, dynamic=not static, **options)
    _print_result(model, output, result, norm=options["norm"], as_json=as_json)


def _default_output(model: str) -> Path:
    """NAME.onnx, here: NAME is that of the model, the factory or the folder."""
    if Path(model).is_dir():
        return Path(f"{Path(model).resolve().name}.onnx")
    return Path(f"{model.rpartition(':')[2].rpartition('.')[2]}.onnx")


def _print_models(as_json: bool) -> None:
    from rms_deploy.models import MODELS

    if as_json:
        print_json({"models": list(MODELS)})
    else:
        click.echo("\n".join(MODELS))


def _print_result(model: str, output: Path, result: ExportResult, *, norm: str, as_json: bool) -> None:
    size = sum(file.stat().st_size for file in (output, Path(f"{output}.data")) if file.exists())
    others, misses = _left(result, norm)
    if as_json:
        counts = {"other_norm_count": sum(others.values()), "near_miss_count": misses}
        print_json({"model": model, "bytes": size, **result.to_dict(), **counts})
        return
    norms = ", ".join(f"{count} {kind}" for kind, count in result.count().items()) or f"no norm op ({norm})"
    cache = ", with key-value cache" if result.cached else ""
    facts = f"{norms}, opset {result.opset}, {result.dtype}, {size / 2**20:.1f} MiB{cache}"
    say(f"exported {model} ({facts}) -> {output}")
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.items())
        say(
            f"{sum(others.values())} more of its norms are no ops of ours: {kinds}; rms-deploy fuse {output} finds them"
        )
    if misses:
        say(f"{near_misses(misses)}; rms-deploy inspect {output} says why")
    if result.cached is False:
        say("no key-value cache: each new token runs the whole sequence again; --with-past exports the cache")
    if not (result.norms or others or misses or norm == "decomposed" or is_quiet()):
        stderr.print(f"warning: {model}: it has no RMSNorm", markup=False, soft_wrap=True)


def _left(result: ExportResult, norm: str) -> tuple[dict[str, int], int]:
    """The norms that are not in the form asked for, by form and kind, and how many nodes only look like one."""
    if norm == "decomposed":
        return {}, 0
    from rms_deploy.fusion.inspect import inspect

    inspection = inspect(result.model)
    ours = {"fused", norm}
    kinds = Counter(f"{each.form} {each.kind}" for each in inspection.norms if each.form not in ours)
    return dict(kinds), len(inspection.near_misses)
