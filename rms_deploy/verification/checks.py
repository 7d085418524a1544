"""Every output of two models for one kind of input, and whether it passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.errors import InputError
from rms_deploy.onnx_model.inputs import GIVEN
from rms_deploy.onnx_model.shapes import require_known
from rms_deploy.onnx_model.signature import output_specs
from rms_deploy.ops.element_types import is_float, is_quantized
from rms_deploy.verification.check import Check
from rms_deploy.verification.difference import TIPPED, Difference, difference, is_near

__all__ = ["Limits", "checks", "per_output"]

_Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Limits:
    """How far outputs may differ."""

    relative_l2: float
    """Of float outputs. Quantised ones are at most one code apart, and others equal."""
    formula: float
    """Relative L2 in float64. There at most one quantised element of a hundred is one code apart."""
    rtol: Mapping[str, float] = field(default_factory=dict)
    """By output: each element may differ by atol + rtol * |reference|, besides. An output in neither has no such
    limit."""
    atol: Mapping[str, float] = field(default_factory=dict)


def per_output(name: str, limit: float | Mapping[str, float] | None, model: ir.Model) -> dict[str, float]:
    """A limit by output, as `Limits` takes it.

    Args:
        name: of the argument, for the error.
        limit: for all float outputs of `model`, or by output.
        model: whose outputs.

    Raises:
        InputError: there is no such output, or a limit is below 0.
    """
    specs = output_specs(model)
    if limit is None:
        return {}
    if not isinstance(limit, Mapping):
        limit = {output: limit for output, spec in specs.items() if is_float(spec.dtype)}
    require_known("output", limit, specs)
    for output, value in limit.items():
        if not value >= 0:
            raise InputError(f"`{name}` of {output} is {value}; use 0 or more")
    return dict(limit)


def checks(
    kind: str, expected: _Arrays, actual: _Arrays, true: _Arrays, meant: _Arrays, limits: Limits
) -> Iterator[Check]:
    """Compare every output.

    Args:
        kind: of the inputs.
        expected: what the reference gives, by output.
        actual: what the candidate gives.
        true: what the reference gives in float64; empty, if it was not run.
        meant: what the candidate gives in float64; empty, if it was not run.
        limits: what passes.
    """
    for name, result in actual.items():
        to_reference = difference(result, expected[name])
        reference_error = difference(expected[name], true[name]) if name in true else None
        candidate_error = difference(result, true[name]) if name in true else None
        formula = difference(meant[name], true[name]) if name in meant else None
        passes = partial(is_near, dtype=result.dtype, limit=limits.relative_l2)
        passed, note = _verdict(kind, to_reference, reference_error, candidate_error, passes)
        if passed and is_quantized(result.dtype) and to_reference.unequal:
            note = note or f"{to_reference.unequal} of {to_reference.elements} codes differ, by one"
        if passed and (far := _far_elements(result, expected[name], limits.rtol.get(name), limits.atol.get(name))):
            passed, note = False, far
        if passed and formula is not None and not is_near(formula, result.dtype, limits.formula, share=TIPPED):
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
    passes: Callable[[Difference], bool],
) -> tuple[bool, str]:
    """Whether an output passes for one kind of input, and the note on that."""
    if passes(to_reference):
        if to_reference.finite or not to_reference.elements:
            return True, ""
        if kind in ("normal", GIVEN):
            return False, "no element is finite: nothing is proven"
        return True, "no element is finite, in both models alike"
    if (
        reference_error is not None
        and candidate_error is not None
        and not passes(reference_error)
        and passes(candidate_error)
    ):
        return True, "the reference is further than the tolerance from the truth, the candidate is within it"
    if to_reference.nonfinite_mismatches:
        return False, f"{to_reference.nonfinite_mismatches} NaN or infinite where the other is not"
    return False, ""


def _far_elements(actual: NDArray[Any], expected: NDArray[Any], rtol: float | None, atol: float | None) -> str:
    """Which elements are further away than these allow; empty: none."""
    if rtol is None and atol is None:
        return ""
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    close = np.isclose(a, e, rtol=rtol or 0.0, atol=atol or 0.0, equal_nan=True)
    far = int(np.count_nonzero(~close))
    limit = f"rtol {rtol or 0:g} and atol {atol or 0:g}"
    return f"{far} of {close.size} elements differ by more than {limit} allow" if far else ""
