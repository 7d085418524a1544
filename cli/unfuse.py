"""`rms-deploy unfuse`"""

from __future__ import annotations

from pathlib import Path

import click

from rms_deploy.cli.console import json_option, print_json, status, stdout

__all__ = ["command"]


@click.command("unfuse", short_help="Write every fused norm as primitives.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The result; may be MODEL. Default: NAME-unfused.onnx, here, where MODEL is NAME.onnx.",
)
@json_option
def command(model: Path, output: Path | None, as_json: bool) -> None:
    """Write every RMSNorm of MODEL that is one op as primitives, for runtimes that know none of these ops.

    Statistics are in float32, and the order of rounding stays that of the op. `rms-deploy fuse` fuses the norms again.
    """
    from rms_deploy.cli.norm_table import print_near_misses
    from rms_deploy.fusion.unfuse import unfuse

    output = output or Path(f"{model.stem}-unfused.onnx")
    with status(f"unfusing {model}"):
        result = unfuse(model, output)
    if as_json:
        print_json({"model": str(model), "output": str(output), **result.to_dict()})
        return
    print_near_misses(result.near_misses)
    stdout.print(f"unfused {len(result.norms)} norms -> {output}", markup=False, soft_wrap=True)
