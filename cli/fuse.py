"""`rms-deploy fuse`"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rms_deploy.cli.console import is_quiet, json_option, print_json, status, stderr, stdout

if TYPE_CHECKING:
    from rms_deploy.fusion.fuse import FusionResult

__all__ = ["command", "print_fusion"]

_TARGETS = ("fused", "standard", "onnxruntime", "decomposed", "tensorrt-plugin")
_TARGET_HELP = (
    "What each norm becomes: our op; ONNX's RMSNormalization (opset 23); ONNX Runtime's own ops, which in half "
    "precision round once, after the scale; primitives; or our TensorRT plugins, for ONNX Runtime's TensorRT provider."
)


@click.command("fuse", short_help="Find decomposed RMSNorms and fuse each into one op.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The fused model; may be MODEL.")
@click.option("--target", type=click.Choice(_TARGETS), default="fused", show_default=True, help=_TARGET_HELP)
@click.option("--no-functions", is_flag=True, help="Leave the ops' function bodies out: only our library runs them.")
@click.option("--no-residual", is_flag=True, help="Leave residual Adds outside: RMSNorm only, no AddRMSNorm.")
@click.option(
    "--allow-precision-gain",
    is_flag=True,
    help="Also fuse norms whose statistics are in half precision; the op takes them in float32.",
)
@click.option(
    "--verify/--no-verify",
    default=None,
    help="Run each norm in both forms first, and leave it if they differ; default: up to 20000 nodes.",
)
@click.option("--require-all", is_flag=True, help="Exit with 1, and write nothing, if anything like RMSNorm is left.")
@click.option("--save-as-external", is_flag=True, help="Write all weights to one data file, OUTPUT.data.")
@click.option("--explain", is_flag=True, help="List every norm, and why each near miss was left.")
@json_option
def command(
    model: Path,
    output: Path,
    target: str,
    no_functions: bool,
    no_residual: bool,
    allow_precision_gain: bool,
    verify: bool | None,
    require_all: bool,
    save_as_external: bool,
    explain: bool,
    as_json: bool,
) -> None:
    """Find the RMSNorms of MODEL, an ONNX file, and make each one op of the domain rms_deploy.

    What cannot be proven to be RMSNorm is left as it is. Each op carries its ONNX function body, so the result runs
    everywhere: fused where the rms-deploy library is loaded, inlined where it is not.
    """
    from rms_deploy.fusion.fuse import fuse

    with status(f"fusing {model}"):
        result = fuse(
            model,
            output,
            target=target,
            functions=not no_functions,
            residual=not no_residual,
            allow_precision_gain=allow_precision_gain,
            verify=verify,
            require_all=require_all,
            save_as_external=save_as_external,
        )
    if as_json:
        print_json(result.to_dict())
    else:
        print_fusion(result, output, explain=explain or (require_all and bool(result.near_misses)))
    if not result.found and not is_quiet():
        stderr.print(f"warning: {model}: no RMSNorm was found; {output} computes what it did", markup=False)
    if require_all and result.near_misses:
        raise click.ClickException(
            f"{model}: {len(result.near_misses)} that look like RMSNorm are left, the first at {result.near_misses[0]}"
        )


def print_fusion(result: FusionResult, output: Path, *, explain: bool = False) -> None:
    """How many norms were fused, and of which kind; `explain`: every norm, and every near miss."""
    from rms_deploy.cli.norm_table import print_near_misses, print_norms

    if explain:
        print_norms((*result.norms, *result.already))
        print_near_misses(result.near_misses)
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(norm.kind for norm in result.norms).items())
    total = result.found - len(result.already)
    text = f"fused {len(result.norms)} of {total} norms" + (f" ({kinds})" if kinds else "")
    if result.already:
        text += f", {len(result.already)} were fused before"
    if result.written:
        text += f" -> {output}"
    stdout.print(text, markup=False, soft_wrap=True)
    if result.worst_ulp is not None:
        run = sum(norm.max_ulp is not None for norm in result.norms)
        stdout.print(f"ran {run} of them in both forms: at most {result.worst_ulp} ulp apart", markup=False)
    gained = sum(norm.note.startswith("precision gained") for norm in result.norms)
    if gained:
        stdout.print(f"{gained} had statistics in half precision, and have them in float32 now", markup=False)
    if result.near_misses and not explain:
        stdout.print(f"left {len(result.near_misses)}; --explain says why", markup=False)
