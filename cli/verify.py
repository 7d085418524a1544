"""`rms-deploy verify`"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from rms_deploy.cli.console import is_quiet, json_option, print_json, say, status
from rms_deploy.cli.shape_options import as_text, dim_option, shape_option
from rms_deploy.cli.table import print_table

if TYPE_CHECKING:
    from rms_deploy.verification.check import Check, Divergence
    from rms_deploy.verification.result import Verification

__all__ = ["NUMBERS_ONLY", "command", "print_verification"]

NUMBERS_ONLY: Final = 3
"""The exit code where the formulas were not compared."""


@click.command("verify", short_help="Prove that two ONNX models compute the same.")
@click.argument("reference", type=click.Path(path_type=Path))
@click.argument("candidate", required=False, type=click.Path(path_type=Path))
@click.option("--endpoint", metavar="URL", help="A server's model as CANDIDATE, such as grpc://localhost:8001/decoder.")
@shape_option
@dim_option
@click.option("--inputs", type=click.Path(path_type=Path), help="An .npz file with one array per input.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the random inputs.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Largest relative L2 difference. [default: what rounding explains, by dtype and depth]",
)
@click.option("--rtol", multiple=True, metavar="[NAME=]X", help="Of each element: |a - e| <= atol + rtol |e|, besides.")
@click.option("--atol", multiple=True, metavar="[NAME=]X", help="As --rtol; both may be given for each output.")
@click.option(
    "--memory",
    type=click.FloatRange(min=0, min_open=True),
    help="GiB for weights and the values that are compared; 1 GiB besides is for all else. [default: what is free]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    show_default=True,
    help="Seconds after which it is given up.",
)
@click.option("--cast", is_flag=True, help="CANDIDATE is REFERENCE in half precision, as rms-deploy cast writes it.")
@click.option("--no-library", is_flag=True, help="Run CANDIDATE without our library, its norms inlined.")
@json_option
def command(
    reference: Path,
    candidate: Path | None,
    endpoint: str | None,
    shapes: dict[str, tuple[int, ...]],
    dims: dict[str, int],
    inputs: Path | None,
    seed: int,
    tolerance: float | None,
    rtol: tuple[str, ...],
    atol: tuple[str, ...],
    memory: float | None,
    timeout: float,
    cast: bool,
    no_library: bool,
    as_json: bool,
) -> None:
    """Prove that CANDIDATE, as deployed, computes what REFERENCE does.

    Exit code 0: it does; 1: it does not, and the first value in which they part is named; 3: its numbers are equal, but
    the formulas were not compared.

    Both get the same inputs, random or from a file. Float inputs are drawn four times: normal, with an outlier
    channel, tiny and huge. A model that takes tokens only gets one kind, as its embedding decides the magnitude.
    REFERENCE runs unoptimised. The error columns are the distance of each from REFERENCE in float64. Both must also
    agree when both run in float64, where no rounding hides a wrong epsilon or scale: as a whole, and part by part
    between the values that both share. CANDIDATE may be an engine that was built from the model: it needs a GPU, and
    runs in its own types only. --endpoint names a model of a server in its place.

    --cast compares a model with its cast to half precision: inputs and outputs may be of another float type, the
    formulas are compared with the weights of REFERENCE in both, and the tolerance is that of the half type.
    """
    if (candidate is None) == (endpoint is None):
        raise click.UsageError("Give CANDIDATE or --endpoint, one of them.")
    from rms_deploy.runtime.endpoint import Endpoint
    from rms_deploy.verification.verify import verify

    tested = candidate if endpoint is None else Endpoint.of(endpoint).url
    assert tested is not None, "one of the two is given"
    with status(f"verifying {tested}"):
        result = verify(
            reference,
            tested,
            inputs=inputs,
            shapes=shapes,
            dims=dims,
            seed=seed,
            tolerance=tolerance,
            rtol=_by_output("--rtol", rtol),
            atol=_by_output("--atol", atol),
            memory=None if memory is None else memory * 2**30,
            library=not no_library,
            cast=cast,
            timeout=timeout,
        )
    if as_json:
        print_json(result.to_dict())
    else:
        print_verification(result, quiet=is_quiet())
    if not result.passed:
        raise SystemExit(1)
    if not result.is_complete:
        raise SystemExit(NUMBERS_ONLY)


def _by_output(option: str, values: tuple[str, ...]) -> dict[str, float] | float | None:
    """`1e-3`, which is of all outputs, or `logits=1e-3`."""
    try:
        if len(values) == 1 and "=" not in values[0]:
            return float(values[0])
        return {name: float(value) for name, _, value in (text.rpartition("=") for text in values)} or None
    except ValueError:
        raise click.BadParameter(f"{' '.join(values)!r} is no number, nor NAME=NUMBER", param_hint=option) from None


def print_verification(result: Verification, *, quiet: bool = False) -> None:
    """The worst output of each kind of input, and the verdict; `quiet`: the verdict only."""
    if not quiet:
        _print_details(result)
    color = "green" if result.is_complete else "yellow"
    say(result.verdict, style=color if result.passed else "bold red")


def _print_details(result: Verification) -> None:
    from rms_deploy.verification.check import check_table

    worst = result.worst_by_kind()
    print_table(check_table(worst))
    for check in worst:
        if check.note:
            say(f"{check.kind}, {check.output}: {check.note}")
    say(
        f"reference: {result.reference_run}\ncandidate: {result.candidate_run}\ntruth:     {result.truth}\n"
        f"formula:   {result.formula}\n"
        f"compared:  {result.compared}\n"
        f"inputs:    {as_text(result.shapes)}{_magnitudes(worst)}"
        + _ulp_reason(worst)
        + _place(result.first_difference)
    )


def _place(first: Divergence | None) -> str:
    """Where two models part, and by how much."""
    if first is None:
        return ""
    node = first.pair.node + (f" of module {first.pair.module}" if first.pair.module else "")
    behind = f"relative L2 {first.difference.relative_l2:.2g}"
    if first.difference.nonfinite_mismatches:
        behind = f"{first.difference.nonfinite_mismatches} NaN or infinite where the other is not"
    text = f"{first.pair.reference}, node {node}, {first.how}: {first.before:.2g} in front of it, {behind} behind"
    return f"\nthey part: in {text}"


def _ulp_reason(checks: Sequence[Check]) -> str:
    near = [check.difference for check in checks if check.has_explained_ulps]
    if not near:
        return ""
    at, rms = near[0].max_ulp_at, near[0].rms
    return f"\n* max ulp:  of an element near zero, {at:.2g} beside a root mean square of {rms:.2g}"


def _magnitudes(checks: Sequence[Check]) -> str:
    """What a reader of the table may miss: a model without float inputs has no magnitudes to vary."""
    only = [check.kind for check in checks] == ["normal"]
    return "; no float input, or only a cache: normal only" if only else ""
