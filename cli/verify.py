"""`rms-deploy verify`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rms_deploy.cli.console import is_quiet, json_option, print_json, status, stdout
from rms_deploy.cli.shape_options import as_text, dim_option, shape_option
from rms_deploy.cli.table import print_table

if TYPE_CHECKING:
    from rms_deploy.verification.difference import Difference
    from rms_deploy.verification.result import Check, Verification

__all__ = ["command", "print_verification"]


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
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    show_default=True,
    help="Seconds after which it is given up.",
)
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
    timeout: float,
    no_library: bool,
    as_json: bool,
) -> None:
    """Prove that CANDIDATE, as deployed, computes what REFERENCE does; exit with 1 if it does not.

    Both get the same inputs, random or from a file. Float inputs are drawn four times: normal, with an outlier
    channel, tiny and huge. A model that takes tokens only gets one kind, as its embedding decides the magnitude.
    REFERENCE runs unoptimised. The error columns are the distance of each from REFERENCE in float64. Both must also
    agree when both run in float64, where no rounding hides a wrong epsilon or scale. CANDIDATE may be an engine that
    was built from the model: it needs a GPU, and runs in its own types only. --endpoint names a model of
    a server in its place.
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
            library=not no_library,
            timeout=timeout,
        )
    if as_json:
        print_json(result.to_dict())
    else:
        print_verification(result, quiet=is_quiet())
    if not result.passed:
        raise SystemExit(1)


def print_verification(result: Verification, *, quiet: bool = False) -> None:
    """The worst output of each kind of input, and the verdict; `quiet`: the verdict only."""
    if not quiet:
        header = (
            "inputs",
            "worst output",
            "result",
            "rel. L2",
            "max abs",
            "max ulp",
            "ref. error",
            "cand. error",
            "in float64",
            "",
        )
        print_table(header, [_row(check) for check in result.worst_by_kind()], left=3)
        stdout.print(
            f"reference: {result.reference_run}\ncandidate: {result.candidate_run}\ntruth:     {result.truth}\n"
            f"formula:   {result.formula}\n"
            f"inputs:    {as_text(result.shapes)}{_magnitudes(result)}",
            markup=False,
            soft_wrap=True,
        )
    limit = f"{result.tolerance:.2g} ({result.tolerance_origin})"
    worst = result.worst
    if result.passed:
        text = f"equal within {limit}: {len(result.checks)} comparison{'s' * (len(result.checks) > 1)}, "
        text += f"relative L2 at most {worst.difference.relative_l2:.2g}"
        if result.formula_difference is not None:
            text += f"; same formula in float64: {result.formula_difference:.2g}"
        else:
            text += f"; formula {result.formula}"
    else:
        failed = sum(not check.passed for check in result.checks)
        text = f"NOT equal within {limit}: {failed} of {len(result.checks)} failed, worst {worst.output} "
        text += f"for {worst.kind} inputs: relative L2 {worst.difference.relative_l2:.2g}"
        text += f"; {worst.note}" if worst.note else ""
    stdout.print(text, markup=False, soft_wrap=True, style="green" if result.passed else "bold red")


def _row(check: Check) -> tuple[str, ...]:
    return (
        check.kind,
        f"{check.output} ({check.dtype})",
        "equal" if check.passed else "NOT equal",
        f"{check.difference.relative_l2:.2g}",
        f"{check.difference.max_abs:.2g}",
        str(check.difference.max_ulp),
        _error(check.reference_error),
        _error(check.candidate_error),
        _error(check.formula),
        check.note,
    )


def _magnitudes(result: Verification) -> str:
    """What a reader of the table may miss: a model without float inputs has no magnitudes to vary."""
    return "; no float input: normal only" if [check.kind for check in result.worst_by_kind()] == ["normal"] else ""


def _error(error: Difference | None) -> str:
    if error is None:
        return ""
    return "not finite" if error.nonfinite_mismatches else f"{error.relative_l2:.2g}"
