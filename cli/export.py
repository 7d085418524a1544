"""`rms-deploy export`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rms_deploy.cli.console import is_quiet, json_option, print_json, status, stderr, stdout

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
    help="Our op with its function body; ONNX RMSNormalization (opset 23); or primitives.",
)
@click.option(
    "--model-norm",
    metavar="[rmsnorm|prmsnorm[:P]|layernorm|none]",
    help="Kind of norm in a built-in model, P the fraction that pRMSNorm reads; default rmsnorm.",
)
@click.option("--random-weights", is_flag=True, help="Of a folder: the sizes of its config.json, seeded weights.")
@click.option(
    "--swap/--no-swap",
    default=None,
    help="First replace RMSNorm modules of other libraries by ours; default for folders, unless --norm is decomposed.",
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
    if as_json:
        print_json({"model": model, "bytes": size, **result.to_dict()})
    else:
        norms = ", ".join(f"{count} {kind}" for kind, count in result.count().items()) or f"no norm op ({norm})"
        facts = f"{norms}, opset {result.opset}, {result.dtype}, {size / 2**20:.1f} MiB"
        stdout.print(f"exported {model} ({facts}) -> {output}", markup=False, soft_wrap=True)
    if not result.norms and norm != "decomposed" and not is_quiet():
        stderr.print(
            f"warning: {model}: no norm of rms_deploy.nn; try --swap, or rms-deploy fuse", markup=False, soft_wrap=True
        )
