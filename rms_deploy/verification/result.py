"""What a verification found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rms_deploy.verification.difference import Difference
from rms_deploy.verification.pairs import ValuePair

__all__ = ["Check", "Divergence", "Part", "Verification"]


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
class Part:
    """What lies between the values that two models share and one such value, or output, in float64."""

    pair: ValuePair
    """The value."""
    kind: str
    """The numbers that both were given in front: `real`, those of the reference, or `tiny`."""
    difference: Difference
    """Candidate against reference."""
    passed: bool


@dataclass(frozen=True)
class Divergence:
    """The first value in which two models differ."""

    pair: ValuePair
    how: str
    """In which comparison: `as deployed`, or `in float64` and for which numbers."""
    before: float
    """Relative L2 difference of the value in front of it."""
    difference: Difference
    """Of the value."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "value": self.pair.reference,
            "candidate_value": self.pair.candidate,
            "node": self.pair.node,
            "module": self.pair.module,
            "how": self.how,
            "before": self.before,
            "behind": self.difference.relative_l2,
            "nonfinite_mismatches": self.difference.nonfinite_mismatches,
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
    parts: tuple[Part, ...] = ()
    """The formulas in parts; empty where the models share no value, or were not compared in float64."""
    first_difference: Divergence | None = None
    """Where the models part, if they are not equal and it was found."""

    @property
    def passed(self) -> bool:
        """Whether every output passed under every kind of input, and every part."""
        return all(check.passed for check in self.checks) and all(part.passed for part in self.parts)

    @property
    def is_complete(self) -> bool:
        """Whether the formulas were compared too, and not the numbers only."""
        return self.formula_difference is not None

    @property
    def compared(self) -> str:
        """What was compared: `whole and in 43 parts`, `whole`, or `numbers only`."""
        if not self.is_complete:
            return "numbers only"
        parts = len({part.pair for part in self.parts})
        return f"whole and in {parts} part{'s' * (parts > 1)}" if parts else "whole"

    @property
    def part_difference(self) -> float | None:
        """The largest relative L2 difference of a part; None where none was compared."""
        return max((part.difference.relative_l2 for part in self.parts), default=None)

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
            "compared": self.compared,
            "reference": {"model": self.reference, "run": self.reference_run},
            "candidate": {"model": self.candidate, "run": self.candidate_run},
            "truth": self.truth,
            "tolerance": self.tolerance,
            "tolerance_origin": self.tolerance_origin,
            "formula": self.formula,
            "formula_tolerance": self.formula_tolerance,
            "formula_difference": self.formula_difference,
            "part_difference": self.part_difference,
            "first_difference": None if self.first_difference is None else self.first_difference.to_dict(),
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "seed": self.seed,
            "worst": {"kind": self.worst.kind, "output": self.worst.output},
            "checks": [check.to_dict() for check in self.checks],
        }


def _badness(check: Check) -> tuple[bool, bool, float]:
    """Sorts checks: the larger, the worse."""
    return not check.passed, check.difference.nonfinite_mismatches > 0, check.difference.relative_l2
