"""`rms-deploy fuse`"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rms_deploy.cli.arguments import with_flags
from rms_deploy.cli.console import is_quiet, json_option, print_json, status, stderr, stdout
from rms_deploy.ops.forms import FORM_MEANINGS, NormForm

if TYPE_CHECKING:
    from rms_deploy.fusion.fuse import FusionResult

__all__ = ["command", "print_fusion"]

_TARGET_HELP = f"What each norm becomes. {'; '.join(f'{form}: {text}' for form, text in FORM_MEANINGS.items())}."


@click.command("fuse", short_help="Find decomposed RMSNorms and fuse each into one op.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The fused model; may be MODEL. Default: NAME-fused.onnx, here, where MODEL is NAME.onnx.",
)
@click.option(
    "--target",
    type=click.Choice([form.value for form in NormForm]),
    default=NormForm.FUSED.value,
    show_default=True,
    help=_TARGET_HELP,
)
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
    help="Run each norm in both forms first, and do not fuse it if they differ; default: up to 20000 nodes.",
)
@click.option("--require-all", is_flag=True, help="Exit with 1, and write nothing, if there is a near miss.")
@click.option("--save-as-external", is_flag=True, help="Write all weights to one data file, OUTPUT.data.")
@click.option("--explain", is_flag=True, help="List every norm, and every near miss with its reason.")
@json_option
def command(
    model: Path,
    output: Path | None,
    no_functions: bool,
    no_residual: bool,
    require_all: bool,
    explain: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the RMSNorms of MODEL, an ONNX file, and make each one op of the domain rms_deploy.

    What cannot be proven to be RMSNorm stays as it is: a near miss. Each op carries its ONNX function body, so the
    result runs everywhere: fused where the rms-deploy library is loaded, inlined where it is not.
    """
    from rms_deploy.cli.norm_table import near_misses
    from rms_deploy.fusion.fuse import fuse

    output = output or Path(f"{model.stem}-fused.onnx")
    with status(f"fusing {model}"):
        result = fuse(
            model,
            output,
            functions=not no_functions,
            residual=not no_residual,
            require_all=require_all,
            **options,
        )
    missed = len(result.near_misses)
    if as_json:
        written = str(output) if result.written else None
        print_json({"model": str(model), "output": written, **result.to_dict()})
    else:
        print_fusion(result, output, explain=explain or (require_all and bool(missed)))
    if not (result.norms or result.fused_before or missed or is_quiet()):
        stderr.print(f"warning: {model}: it has no RMSNorm; {output} computes what it did", markup=False)
    if require_all and missed:
        first = with_flags(str(result.near_misses[0]))
        raise click.ClickException(f"{model}: {near_misses(missed)}, the first at {first}")


def print_fusion(result: FusionResult, output: Path, *, explain: bool = False) -> None:
    """How many norms were fused, and of which kind; `explain`: every norm, and every near miss."""
    from rms_deploy.cli.norm_table import near_misses, print_near_misses, print_norms

    if explain:
        print_norms((*result.norms, *result.fused_before))
        print_near_misses(result.near_misses)
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(norm.kind for norm in result.norms).items())
    total = len(result.norms) + len(result.near_misses)
    text = f"fused {len(result.norms)} of {total} norms" + (f" ({kinds})" if kinds else "")
    if result.fused_before:
        text += f", {len(result.fused_before)} were fused before"
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
        stdout.print(f"{near_misses(len(result.near_misses))}; --explain says why", markup=False)
