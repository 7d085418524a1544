"""Proof that a model computes what another does: both run on the same inputs, and their results are compared."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from rms_deploy.errors import InputError
from rms_deploy.onnx_model.file import load_model
from rms_deploy.onnx_model.inputs import GIVEN, MAGNITUDES, check_inputs, resolve_inputs
from rms_deploy.onnx_model.signature import require_same
from rms_deploy.ops.element_types import is_float
from rms_deploy.runtime.engine_file import is_engine
from rms_deploy.verification.candidates import (
    Runner,
    candidate_runner,
    engine_runner,
    formula_runner,
    reference_runner,
    truth_runner,
)
from rms_deploy.verification.difference import Difference, difference
from rms_deploy.verification.result import Check, Verification
from rms_deploy.verification.tolerance import FORMULA_TOLERANCE, rounding, tolerance_for

__all__ = ["verify"]

_Feeds = Mapping[str, NDArray[Any]]


def verify(
    reference: str | os.PathLike[str],
    candidate: str | os.PathLike[str],
    *,
    inputs: str | os.PathLike[str] | _Feeds | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    library: bool = True,
) -> Verification:
    """Run both models on the same inputs and compare every output.

    The reference runs unoptimised, its norms decomposed; the candidate as it is deployed: optimised, with our
    library. Both are also held against the truth, the reference in float64, so that one sees that the candidate is
    no further from it. An output passes within `tolerance` of the reference. Where the reference itself is further
    than that from the truth, as float16 sums of squares that overflow are, an output within `tolerance` of the truth
    passes too, and its note says so.

    In a half type rounding hides a wrong epsilon, and in a deep model a wrong scale. So both also run in float64,
    their norms as functions, and must agree to `comparison.FORMULA_TOLERANCE` there. That proves the formula, which
    says nothing of the order of rounding and scaling nor of the kernel: those show in the other comparison only. A
    model that is too large for float64, or has an op without a float64 kernel, is not compared so, and the result's
    `formula` says why.

    Args:
        reference: the model that is right.
        candidate: the model to prove; or an engine that was built from it, which needs a GPU.
        inputs: an .npz file or arrays by name; default: random ones, in each magnitude of `random_inputs`.
        shapes: of inputs, by name.
        dims: sizes of named dynamic dimensions.
        seed: of the random inputs.
        tolerance: largest accepted relative L2 difference, in float64 too; default `tolerance_for` of the narrowest
            float type, and `FORMULA_TOLERANCE`.
        library: run the candidate with our custom-op library.

    Raises:
        InputError: the signatures differ, or the inputs do not fit them.
        ModelFileError: a file cannot be read.
        RunError: ONNX Runtime refuses a model.
    """
    if tolerance is not None and not tolerance >= 0:
        raise InputError(f"tolerance is {tolerance}; use 0 or more")
    model = load_model(reference)
    as_engine = is_engine(candidate)
    other = model if as_engine else load_model(candidate)
    require_same(model, other)
    feeds_by_kind = resolve_inputs(model, inputs=inputs, shapes=shapes, dims=dims, seed=seed, magnitudes=MAGNITUDES)
    for feeds in feeds_by_kind.values():
        check_inputs(feeds, other)
    right = reference_runner(reference, model)
    tested = engine_runner(candidate) if as_engine else candidate_runner(candidate, library=library)
    truth, how_true = truth_runner(reference, model)
    formula, how_formula = (
        (None, "not compared: an engine has no float64")
        if as_engine
        else formula_runner(candidate, other, truth, how_true)
    )
    formula_limit = FORMULA_TOLERANCE if tolerance is None else tolerance
    dtype, depth = rounding(model, upcast=tested.upcast)
    origin = "given" if tolerance is not None else f"4 eps({dtype.name}) sqrt({depth} roundings in a row)"
    limit = tolerance_for(dtype, depth) if tolerance is None else tolerance
    checks: list[Check] = []
    for kind, feeds in feeds_by_kind.items():
        checks += _checks(kind, feeds, _Runners(right, tested, truth, formula), limit, formula_limit)
    return Verification(
        reference=os.fspath(reference),
        candidate=os.fspath(candidate),
        reference_run=right.how,
        candidate_run=tested.how,
        truth=how_true,
        tolerance=limit,
        tolerance_origin=origin,
        formula=how_formula,
        formula_tolerance=formula_limit,
        shapes={name: array.shape for name, array in next(iter(feeds_by_kind.values())).items()},
        seed=seed,
        checks=tuple(checks),
    )


@dataclass(frozen=True)
class _Runners:
    reference: Runner
    candidate: Runner
    truth: Runner | None
    """The reference in float64."""
    formula: Runner | None
    """The candidate in float64."""


def _checks(kind: str, feeds: _Feeds, run: _Runners, tolerance: float, formula_tolerance: float) -> Iterator[Check]:
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
