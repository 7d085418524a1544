"""What a verification found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rms_deploy.verification.difference import Difference

__all__ = ["Check", "Verification"]


@dataclass(frozen=True)
class Check:
    """One output under one kind of input."""

    kind: str
    """Magnitude of the inputs (normal, outlier, tiny, huge), or `given`."""
    output: str
    dtype: str
    difference: Difference
    """Candidate against reference."""
    reference_error: Difference | None
    """Reference against the truth, where there is one."""
    candidate_error: Difference | None
    """Candidate against the truth."""
    formula: Difference | None
    """Candidate against reference, both in float64: whether they are one formula; None: that did not run."""
    passed: bool
    note: str
    """Why it failed, or what a reader must know of it; empty as a rule."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        errors = {"reference_error": self.reference_error, "candidate_error": self.candidate_error}
        errors["formula"] = self.formula
        return {
            "kind": self.kind,
            "output": self.output,
            "dtype": self.dtype,
            "passed": self.passed,
            "note": self.note,
            **self.difference.to_dict(),
            **{name: None if error is None else error.relative_l2 for name, error in errors.items()},
        }


@dataclass(frozen=True)
class Verification:
    """The result of `verify`."""

    reference: str
    """Its file, or the name of its graph."""
    candidate: str
    reference_run: str
    """How the reference ran, e.g. `as it is, unoptimised` or `upcast to float32`."""
    candidate_run: str
    truth: str
    """What both were compared with as well, e.g. `the reference in float64`, or why there is nothing."""
    tolerance: float
    """Largest accepted relative L2 difference."""
    tolerance_origin: str
    formula: str
    """How the formulas were compared, or `not compared: ` and why."""
    formula_tolerance: float
    """Largest accepted relative L2 difference of both in float64."""
    shapes: Mapping[str, tuple[int, ...]]
    seed: int
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every output passed under every kind of input."""
        return all(check.passed for check in self.checks)

    @property
    def worst(self) -> Check:
        """The output that differs most: failed before passed, then by relative L2."""
        return max(self.checks, key=_badness)

    @property
    def formula_difference(self) -> float | None:
        """The largest relative L2 difference of both in float64; None where they were not compared."""
        return max((check.formula.relative_l2 for check in self.checks if check.formula is not None), default=None)

    def worst_by_kind(self) -> list[Check]:
        """The worst output of each kind of input, in the order in which they ran."""
        kinds = dict.fromkeys(check.kind for check in self.checks)
        return [max((c for c in self.checks if c.kind == kind), key=_badness) for kind in kinds]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "passed": self.passed,
            "reference": {"model": self.reference, "run": self.reference_run},
            "candidate": {"model": self.candidate, "run": self.candidate_run},
            "truth": self.truth,
            "tolerance": self.tolerance,
            "tolerance_origin": self.tolerance_origin,
            "formula": self.formula,
            "formula_tolerance": self.formula_tolerance,
            "formula_difference": self.formula_difference,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "seed": self.seed,
            "worst": {"kind": self.worst.kind, "output": self.worst.output},
            "checks": [check.to_dict() for check in self.checks],
        }


def _badness(check: Check) -> tuple[bool, bool, float]:
    """Sorts checks: the larger, the worse."""
    return not check.passed, check.difference.nonfinite_mismatches > 0, check.difference.relative_l2
