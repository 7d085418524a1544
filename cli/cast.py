"""`rms-deploy cast`"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rms_deploy.cli.arguments import with_flags
from rms_deploy.cli.console import is_quiet, json_option, print_json, say, status
from rms_deploy.cli.shape_options import dim_option, shape_option
from rms_deploy.ops.forms import NormForm

if TYPE_CHECKING:
    from rms_deploy.conversion.cast import CastResult

__all__ = ["command"]


@click.command("cast", short_help="Half precision that is safe: fuse, cast, verify.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The cast model; may be MODEL. Default: NAME-float16.onnx, here, where MODEL is NAME.onnx.",
)
@click.option("--to", type=click.Choice(["float16", "bfloat16"]), default="float16", show_default=True)
@click.option(
    "--target",
    type=click.Choice([form.value for form in NormForm]),
    default=NormForm.FUSED.value,
    show_default=True,
    help="What each norm becomes, as for rms-deploy fuse.",
)
@click.option(
    "--keep", multiple=True, metavar="NODE|OP", help="A node, or all of an operator, stays in float32. May be repeated."
)
@click.option("--keep-io", is_flag=True, help="Inputs and outputs stay in float32.")
@click.option("--inputs", type=click.Path(path_type=Path), help="An .npz file with one array per input, as the sample.")
@shape_option
@dim_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the random inputs.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Compare with MODEL before it is written.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    show_default=True,
    help="Seconds after which the comparison is given up.",
)
@click.option("--save-as-external", is_flag=True, help="Write all weights to one data file, OUTPUT.data.")
@click.option("--explain", is_flag=True, help="List what stays in float32, and every near miss, with its reason.")
@json_option
def command(model: Path, output: Path | None, to: str, explain: bool, as_json: bool, **options: Any) -> None:
    """Write MODEL, in float32, in half precision.

    The norms are fused first, so that their statistics stay in float32 inside one op. ONNX Runtime's converter casts
    the rest, but for operators that have no half form, sums outside of norms, what leads from positions to a sine, and,
    for float16, what leaves its range on sample inputs. --explain lists these.

    The result is compared with MODEL, as `rms-deploy verify --cast` does. Exit code 1: it is further away than rounding
    explains, and nothing is written; 3: it was written, but the formulas were not compared.
    """
    from rms_deploy.cli.verify import NUMBERS_ONLY, print_verification
    from rms_deploy.conversion.cast import cast

    output = output or Path(f"{model.stem}-{to}.onnx")
    with status(f"casting {model}"):
        result = cast(model, output, to=to, **options)
    if as_json:
        print_json({"model": str(model), "output": str(output) if result.written else None, **result.to_dict()})
    else:
        _print(result, output, explain=explain)
        if result.verification is not None:
            print_verification(result.verification, quiet=is_quiet())
    if result.verification is not None and not result.verification.passed:
        raise SystemExit(1)
    if result.verification is not None and not result.verification.is_complete:
        raise SystemExit(NUMBERS_ONLY)


def _print(result: CastResult, output: Path, *, explain: bool) -> None:
    from rms_deploy.cli.norm_table import near_misses, print_near_misses
    from rms_deploy.cli.table import print_table

    if explain:
        kept, _ = result.tables()
        print_table(replace(kept, rows=[[with_flags(cell) for cell in row] for row in kept.rows]))
        print_near_misses(result.near_misses)
    operators = Counter(kept.op_type for kept in result.kept)
    text = f"cast {result.cast_count} of {result.cast_count + len(result.kept)} nodes to {result.to}"
    text += f", {len(result.norms)} of them norms"
    if operators:
        text += f"; in float32 stay {', '.join(f'{count} {op}' for op, count in operators.most_common())}"
    text += f" -> {output}" if result.written else "; nothing was written"
    say(text)
    if not explain and result.near_misses:
        say(f"{near_misses(len(result.near_misses))}; --explain says why")
