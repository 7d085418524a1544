"""What a verification compared: outputs as deployed, parts in float64, and the value in which two models part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rms_deploy.display import Table
from rms_deploy.verification.difference import Difference
from rms_deploy.verification.pairs import ValuePair

__all__ = ["Check", "Divergence", "Part", "check_table"]


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

    @property
    def has_explained_ulps(self) -> bool:
        """Whether many ulps are few: those of an element near zero."""
        return self.passed and self.difference.max_ulp > 1 and self.difference.is_near_zero

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


def check_table(checks: Sequence[Check]) -> Table:
    """A row for each check. A star stands at ulps that are many only because the element is near zero."""
    header = (
        *("inputs", "worst output", "result", "rel. L2", "max abs", "max ulp"),
        *("ref. error", "cand. error", "in float64"),
    )
    rows = [
        (
            check.kind,
            f"{check.output} ({check.dtype})",
            "equal" if check.passed else "NOT equal",
            f"{check.difference.relative_l2:.2g}",
            f"{check.difference.max_abs:.2g}",
            f"{check.difference.max_ulp}{'*' * check.has_explained_ulps}",
            *map(_error, (check.reference_error, check.candidate_error, check.formula)),
        )
        for check in checks
    ]
    return Table(header, rows, left=3, first_to_go=("max abs", "ref. error", "max ulp", "cand. error", "in float64"))


def _error(error: Difference | None) -> str:
    if error is None:
        return ""
    return "not finite" if error.nonfinite_mismatches else f"{error.relative_l2:.2g}"
