"""`rms-deploy fuse`"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rms_deploy.cli.arguments import with_flags
from rms_deploy.cli.console import is_quiet, json_option, print_json, progress, say, status, stderr
from rms_deploy.ops.forms import FORM_MEANINGS, NormForm

if TYPE_CHECKING:
    from rms_deploy.deployment.fuse_folder import FolderFusion
    from rms_deploy.fusion.fuse import FusionResult

__all__ = ["command", "print_fusion"]

_TARGET_HELP = f"What each norm becomes. {'; '.join(f'{form}: {text}' for form, text in FORM_MEANINGS.items())}."


@click.command("fuse", short_help="Find decomposed RMSNorms and fuse each into one op.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The fused model, or the folder for the fused models of a folder; may be MODEL. Default: NAME-fused.onnx, "
    "here, where MODEL is NAME.onnx; NAME-fused, where it is a folder.",
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
@click.option("--no-gate", is_flag=True, help="Leave gates outside: no op with Gate in its name.")
@click.option("--no-shift", is_flag=True, help="Leave shifts outside: no op with Shift in its name.")
@click.option("--no-quantization", is_flag=True, help="Leave QuantizeLinear outside: no op with Quantize in its name.")
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
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Of a folder: models at a time. [default: one for each usable core]"
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Of a folder: fuse on the nodes of a Ray cluster: host:port of its head, auto or local.",
)
@json_option
def command(
    model: Path,
    output: Path | None,
    no_functions: bool,
    no_residual: bool,
    no_gate: bool,
    no_shift: bool,
    no_quantization: bool,
    require_all: bool,
    explain: bool,
    jobs: int | None,
    ray: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the RMSNorms of MODEL, an ONNX file, and make each one op of the domain rms_deploy.

    Where MODEL is a folder, every .onnx file in it and in the folders in it is fused, each in a process of its own. One
    that fails is reported, the others go on, and the exit code is 1.

    What cannot be proven to be RMSNorm stays as it is: a near miss. Each op carries its ONNX function body: it is one
    kernel where the rms-deploy library is loaded, and the runtime inlines the body where it is not. What other tools
    broke of a MODEL that was fused before is mended.
    """
    options |= {"functions": not no_functions, "residual": not no_residual, "gate": not no_gate}
    options |= {"shift": not no_shift, "quantization": not no_quantization}
    options |= {"require_all": require_all}
    if model.is_dir():
        options |= {"jobs": jobs, "ray": ray}
        _fuse_folder(model, output, options, explain=explain, as_json=as_json)
        return
    if jobs is not None or ray is not None:
        raise click.UsageError(f"--jobs and --ray are for a folder, and {model} is none")
    from rms_deploy.cli.norm_table import near_misses
    from rms_deploy.fusion.fuse import fuse

    output = output or Path(f"{model.stem}-fused.onnx")
    with status(f"fusing {model}"):
        result = fuse(model, output, **options)
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


def _fuse_folder(folder: Path, output: Path | None, options: dict[str, Any], *, explain: bool, as_json: bool) -> None:
    """Fuse a folder, print what was found, and raise what the exit code says."""
    from rms_deploy.deployment.fuse_folder import fuse_folder

    output = output or Path(f"{folder.resolve().name}-fused")
    with progress() as on_progress:
        result = fuse_folder(folder, output, on_progress=on_progress, **options)
    if as_json:
        print_json({"folder": str(folder), "output": str(output), **result.to_dict()})
    else:
        _print_folder(result, output, explain=explain)
    wrong = []
    if result.failed:
        wrong.append(f"{len(result.failed)} failed, the first is {result.failed[0].model}")
    if options["require_all"] and result.incomplete:
        wrong.append(f"{len(result.incomplete)} have near misses, the first is {result.incomplete[0].model}")
    if wrong:
        raise click.ClickException(f"{folder}: of {len(result.models)} models {'; '.join(wrong)}")


def _print_folder(result: FolderFusion, output: Path, *, explain: bool) -> None:
    from rms_deploy.cli.norm_table import print_near_misses
    from rms_deploy.cli.table import print_table

    for table in result.tables():
        print_table(table)
    for model in result.models if explain else ():
        if model.near_misses:
            say(f"{model.model}:")
            print_near_misses(model.near_misses)
    written = sum(model.written for model in result.models)
    fused = sum(model.fused_count for model in result.models)
    say(f"fused {fused} norms; wrote {written} of {len(result.models)} models -> {output}")


def print_fusion(result: FusionResult, output: Path, *, explain: bool = False) -> None:
    """How many norms were fused, and of which kind; `explain`: every norm, and every near miss."""
    from rms_deploy.cli.norm_table import near_misses, print_near_misses, print_norms

    if explain:
        print_norms((*result.norms, *result.fused_before))
        print_near_misses(result.near_misses)
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(norm.kind for norm in result.norms).items())
    total = len(result.norms) + sum(miss.left == "norm" for miss in result.near_misses)
    text = f"fused {len(result.norms)} of {total} norms" + (f" ({kinds})" if kinds else "")
    if result.fused_before:
        text += f", {len(result.fused_before)} were fused before"
    if result.written:
        text += f" -> {output}"
    say(text)
    for repair in result.repairs:
        say(f"mended {repair}")
    if result.worst_ulp is not None:
        run = sum(norm.max_ulp is not None for norm in result.norms)
        say(f"ran {run} of them in both forms: at most {result.worst_ulp} ulp apart")
    gained = sum(norm.note.startswith("precision gained") for norm in result.norms)
    if gained:
        say(f"{gained} had statistics in half precision, and have them in float32 now")
    if result.near_misses and not explain:
        say(f"{near_misses(len(result.near_misses))}; --explain says why")
