"""`rms-deploy fuse`"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rms_deploy.cli.console import is_quiet, json_option, print_json, status, stderr, stdout

if TYPE_CHECKING:
    from rms_deploy.fusion import FusionResult

__all__ = ["command", "print_fusion"]


@click.command("fuse", short_help="Find decomposed RMSNorms and fuse each into one op.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The fused model; may be MODEL.")
@click.option("--no-residual", is_flag=True, help="Leave residual Adds outside: RMSNorm only, no AddRMSNorm.")
@click.option("--explain", is_flag=True, help="List every norm, and why each near miss was left.")
@json_option
def command(model: Path, output: Path, no_residual: bool, explain: bool, as_json: bool) -> None:
    """Find the RMSNorms of MODEL, an ONNX file, and make each one op of the domain rms_deploy.

    What cannot be proven to be RMSNorm is left as it is. Each op carries its ONNX function body, so the result runs
    everywhere: fused where the rms-deploy library is loaded, inlined where it is not.
    """
    from rms_deploy.fusion import fuse

    with status(f"fusing {model}"):
        result = fuse(model, output, residual=not no_residual)
    if as_json:
        print_json(result.to_dict())
    else:
        print_fusion(result, output, explain=explain)
    if not result.found and not is_quiet():
        stderr.print(f"warning: {model}: no RMSNorm was found; {output} computes what it did", markup=False)


def print_fusion(result: FusionResult, output: Path, *, explain: bool = False) -> None:
    """How many norms were fused, and of which kind; `explain`: every norm, and every near miss."""
    from rms_deploy.cli.norm_table import print_near_misses, print_norms

    if explain:
        print_norms((*result.norms, *result.already))
        print_near_misses(result.left)
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(norm.kind for norm in result.norms).items())
    total = result.found - len(result.already)
    text = f"fused {len(result.norms)} of {total} norms" + (f" ({kinds})" if kinds else "")
    if result.already:
        text += f", {len(result.already)} were fused before"
    stdout.print(f"{text} -> {output}", markup=False, soft_wrap=True)
    if result.left and not explain:
        stdout.print(f"left {len(result.left)}; --explain says why", markup=False)
