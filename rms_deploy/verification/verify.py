"""Proof that a model computes what another does: both run on the same inputs, and their results are compared."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.errors import InputError
from rms_deploy.onnx_model.inputs import GIVEN, MAGNITUDES, check_inputs, resolve_inputs
from rms_deploy.onnx_model.signature import require_same
from rms_deploy.ops.element_types import is_float
from rms_deploy.runtime.endpoint import is_endpoint
from rms_deploy.runtime.engine_file import is_engine
from rms_deploy.verification.candidates import (
    Candidate,
    CandidateRun,
    deployed_run,
    endpoint_run,
    engine_run,
    formula_run,
    reference_run,
    truth_run,
)
from rms_deploy.verification.difference import Difference, difference
from rms_deploy.verification.isolated import call_isolated
from rms_deploy.verification.result import Check, Verification
from rms_deploy.verification.tolerance import FORMULA_TOLERANCE, rounding, tolerance_for

__all__ = ["verify"]

_Feeds = Mapping[str, NDArray[Any]]


def verify(
    reference: str | os.PathLike[str] | onnx.ModelProto | ir.Model,
    candidate: str | os.PathLike[str] | onnx.ModelProto | ir.Model,
    *,
    inputs: str | os.PathLike[str] | _Feeds | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    library: bool = True,
    timeout: float | None = None,
) -> Verification:
    """Run both models on the same inputs and compare every output.

    The reference runs unoptimised, its norms decomposed; the candidate as it is deployed: optimised, with our
    library. Both are also compared with the truth, the reference in float64, which shows whether the candidate is
    further from it than the reference is. An output passes within `tolerance` of the reference. Where the reference
    itself is further than that from the truth, as where float16 sums of squares overflow, an output within `tolerance`
    of the truth passes too, and its note says so.

    In a half type rounding hides a wrong epsilon, and in a deep model a wrong scale. So both also run in float64,
    their norms as functions, and must agree to `FORMULA_TOLERANCE` there. That proves the formula. It says nothing of
    the kernel, nor of the order of rounding and scaling: only the other comparison shows those. A model that is too
    large for float64, or has an op without a float64 kernel, is not compared in this way; the result's `formula` says
    why.

    Args:
        reference: the model that is right: a file, a proto or an onnx-ir model. A given model is not changed.
        candidate: the model to prove, in the same forms; or an engine that was built from it, which needs a GPU; or
            the endpoint of a server that runs it, as grpc://host:port/model or http://host:port/model.
        inputs: an .npz file or arrays by name; default: random ones, in each magnitude of `random_inputs`.
        shapes: of inputs, by name.
        dims: sizes of named dynamic dimensions.
        seed: of the random inputs.
        tolerance: largest accepted relative L2 difference, in float64 too; default `tolerance_for` of the narrowest
            float type, and `FORMULA_TOLERANCE`.
        library: run the candidate with our custom-op library.
        timeout: seconds after which it ends with an error, as a model may loop for ever. It then runs in a process of
            its own, where a crash of a runtime is an error too, and takes files or protos; None: in this process.

    Raises:
        InputError: the signatures differ, the inputs do not fit them, or results differ in their shapes.
        ModelFileError: a file cannot be read.
        RunError: ONNX Runtime refuses a model, a server does not answer, or it did not end within `timeout`.
    """
    if timeout is not None:
        options = {"inputs": inputs, "shapes": shapes, "dims": dims, "seed": seed, "tolerance": tolerance}
        return _isolated(reference, candidate, timeout=timeout, library=library, **options)
    if tolerance is not None and not tolerance >= 0:
        raise InputError(f"tolerance is {tolerance}; use 0 or more")
    right = Candidate.of(reference)
    place = candidate if isinstance(candidate, str | os.PathLike) and _has_no_graph(candidate) else None
    tested = right if place is not None else Candidate.of(candidate)
    require_same(right.model, tested.model)
    feeds_by_kind = resolve_inputs(
        right.model, inputs=inputs, shapes=shapes, dims=dims, seed=seed, magnitudes=MAGNITUDES
    )
    for feeds in feeds_by_kind.values():
        check_inputs(feeds, tested.model)
    expected = reference_run(right)
    actual = deployed_run(tested, library=library) if place is None else _run_at(place, right)
    truth, how_true = truth_run(right)
    if place is None:
        formula, how_formula = formula_run(tested, truth, how_true)
    else:
        formula, how_formula = None, f"not compared: {'a server' if is_endpoint(place) else 'an engine'} has no float64"
    formula_limit = FORMULA_TOLERANCE if tolerance is None else tolerance
    dtype, depth = rounding(right.model, upcast=actual.upcast)
    origin = "given" if tolerance is not None else f"4 eps({dtype.name}) sqrt({depth} roundings in a row)"
    limit = tolerance_for(dtype, depth) if tolerance is None else tolerance
    runs = _Runs(expected, actual, truth, formula)
    checks: list[Check] = []
    for kind, feeds in feeds_by_kind.items():
        checks += _checks(kind, feeds, runs, limit, formula_limit)
    return Verification(
        reference=right.name,
        candidate=tested.name if place is None else os.fspath(place),
        reference_run=expected.how,
        candidate_run=actual.how,
        truth=how_true,
        tolerance=limit,
        tolerance_origin=origin,
        formula=how_formula,
        formula_tolerance=formula_limit,
        shapes={name: array.shape for name, array in next(iter(feeds_by_kind.values())).items()},
        seed=seed,
        checks=tuple(checks),
    )


def _isolated(*models: Any, timeout: float, **options: Any) -> Verification:
    """`verify` in a process of its own."""
    if not timeout > 0:
        raise InputError(f"timeout is {timeout}; use more than 0 seconds")
    if any(isinstance(model, ir.Model) for model in models):
        raise InputError("with `timeout` models are given as files or protos, not as onnx-ir models")
    result: Verification = call_isolated(__name__, "verify", *models, timeout=timeout, **options)
    return result


def _has_no_graph(candidate: str | os.PathLike[str]) -> bool:
    """Whether it only runs: an engine, or a model of a server."""
    return is_endpoint(candidate) or is_engine(candidate)


def _run_at(place: str | os.PathLike[str], reference: Candidate) -> CandidateRun:
    return endpoint_run(place, reference) if is_endpoint(place) else engine_run(place)


@dataclass(frozen=True)
class _Runs:
    reference: CandidateRun
    candidate: CandidateRun
    truth: CandidateRun | None
    """The reference in float64."""
    formula: CandidateRun | None
    """The candidate in float64."""


def _checks(kind: str, feeds: _Feeds, run: _Runs, tolerance: float, formula_tolerance: float) -> Iterator[Check]:
    """Every output for one kind of input."""
    expected, actual = run.reference(feeds), run.candidate(feeds)
    true = run.truth(feeds) if run.truth is not None else {}
    meant = run.formula(feeds) if run.formula is not None else {}
    for name, result in actual.items():
        to_reference = difference(result, expected[name])
        reference_error = difference(expected[name], true[name]) if name in true else None
        candidate_error = difference(result, true[name]) if name in true else None
        formula = difference(meant[name], true[name]) if name in meant else None
        floats = is_float(result.dtype)
        passed, note = _verdict(kind, to_reference, reference_error, candidate_error, tolerance if floats else 0.0)
        if passed and formula is not None and not formula.within(formula_tolerance if floats else 0.0):
            passed, note = False, f"another formula: in float64, relative L2 {formula.relative_l2:.2g}"
        yield Check(
            kind,
            name,
            result.dtype.name,
            to_reference,
            reference_error,
            candidate_error,
            formula,
            passed=passed,
            note=note,
        )


def _verdict(
    kind: str,
    to_reference: Difference,
    reference_error: Difference | None,
    candidate_error: Difference | None,
    limit: float,
) -> tuple[bool, str]:
    """Whether an output passes for one kind of input, and the note on that."""
    if to_reference.within(limit):
        if to_reference.finite or not to_reference.elements:
            return True, ""
        if kind in ("normal", GIVEN):
            return False, "no element is finite: nothing is proven"
        return True, "no element is finite, in both models alike"
    if (
        reference_error is not None
        and candidate_error is not None
        and not reference_error.within(limit)
        and candidate_error.within(limit)
    ):
        return True, "the reference is further than the tolerance from the truth, the candidate is within it"
    if to_reference.nonfinite_mismatches:
        return False, f"{to_reference.nonfinite_mismatches} NaN or infinite where the other is not"
    return False, ""
