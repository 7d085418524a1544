"""What a verification found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rms_deploy.display import Displayed, Table
from rms_deploy.verification.check import Check, Divergence, Part, check_table

__all__ = ["Verification"]


@dataclass(frozen=True, repr=False)
class Verification(Displayed):
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
    def verdict(self) -> str:
        """What was found, in one sentence: equal or not, within which limit, and how far apart."""
        limit = f"{self.tolerance:.2g} ({self.tolerance_origin})"
        if not self.passed:
            return f"NOT equal within {limit}: {self._failure()}"
        text = f"equal within {limit}: {len(self.checks)} comparison{'s' * (len(self.checks) > 1)}, "
        text += f"relative L2 at most {self.worst.difference.relative_l2:.2g}"
        text += f" ({self.worst.kind} inputs: {self.worst.note})" if self.worst.note else ""
        if self.formula_difference is None:
            return f"{text}; numbers only: formula {self.formula}"
        text += f"; same formula in float64: {self.formula_difference:.2g}"
        return text if self.part_difference is None else f"{text}, {self.part_difference:.2g} in parts"

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

    def _failure(self) -> str:
        worst = self.worst
        failed = sum(not check.passed for check in self.checks)
        if not failed:
            parts = len({part.pair for part in self.parts if not part.passed})
            return f"the outputs are, but not {parts} of the parts in float64: relative L2 {self.part_difference:.2g}"
        text = f"{failed} of {len(self.checks)} failed, worst {worst.output} for {worst.kind} inputs: "
        return f"{text}relative L2 {worst.difference.relative_l2:.2g}" + (f"; {worst.note}" if worst.note else "")

    def _line(self) -> str:
        return f"{self.candidate}: {self.verdict}"

    def tables(self) -> Iterable[Table]:
        """The worst output of each kind of input."""
        yield check_table(self.worst_by_kind())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "passed": self.passed,
            "verdict": self.verdict,
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
