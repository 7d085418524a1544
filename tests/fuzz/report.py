"""The counts of all runs so far, in one JSON file that each run adds to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .trials import KINDS, Outcome

__all__ = ["KindReport", "Report"]

_SEEDS = 20
"""Seeds that are named for each kind of failure."""


@dataclass
class KindReport:
    """What was tried of one kind."""

    ranges: list[list[int]] = field(default_factory=list)
    """Seeds that are done: first, and one past the last."""
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By error and place: how many, the first seeds, a message, and whether it is mended."""

    @property
    def tried(self) -> int:
        return sum(end - start for start, end in self.ranges)

    def remaining(self, start: int, count: int) -> Iterator[int]:
        """Seeds from `start` on that are not done."""
        for seed in range(start, start + count):
            if not any(first <= seed < end for first, end in self.ranges):
                yield seed

    def add(self, outcome: Outcome) -> bool:
        """Count it; whether it is a failure of a new kind."""
        self._done(outcome.seed)
        self.outcomes[outcome.category] += 1
        if outcome.failed:
            key = f"{outcome.error} | {outcome.frame}"
            known = key in self.failures
            failure = self.failures.setdefault(
                key, {"count": 0, "seeds": [], "mended": False, "example": outcome.detail}
            )
            failure["count"] += 1
            failure["mended"] = False
            if len(failure["seeds"]) < _SEEDS:
                failure["seeds"].append(outcome.seed)
            return not known
        return False

    def failed_seeds(self) -> list[int]:
        """Those that are named."""
        return sorted({seed for failure in self.failures.values() for seed in failure["seeds"]})

    def mend(self, still_failing: set[int]) -> None:
        """Mark each kind of failure of which no named seed fails any more."""
        for failure in self.failures.values():
            failure["mended"] = still_failing.isdisjoint(failure["seeds"])

    def _done(self, seed: int) -> None:
        for span in self.ranges:
            if span[1] == seed:
                span[1] += 1
                break
        else:
            self.ranges.append([seed, seed + 1])
        merged: list[list[int]] = []
        for first, end in sorted(self.ranges):
            if merged and merged[-1][1] >= first:
                merged[-1][1] = max(end, merged[-1][1])
            else:
                merged.append([first, end])
        self.ranges = merged


@dataclass
class Report:
    """All kinds, and what they were tried with."""

    versions: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, KindReport] = field(default_factory=lambda: {kind: KindReport() for kind in KINDS})

    @classmethod
    def read(cls, path: Path) -> Report:
        """The report of this file; an empty one if there is none."""
        report = cls()
        if path.exists():
            saved = json.loads(path.read_text())
            report.versions = saved["versions"]
            for kind, fields in saved["kinds"].items():
                report.kinds[kind] = KindReport(fields["ranges"], Counter(fields["outcomes"]), fields["failures"])
        return report

    def write(self, path: Path) -> None:
        """Whole, or not at all."""
        kinds = {
            kind: {
                "tried": part.tried,
                "ranges": part.ranges,
                "outcomes": dict(part.outcomes.most_common()),
                "failures": dict(sorted(part.failures.items(), key=lambda item: -item[1]["count"])),
            }
            for kind, part in self.kinds.items()
        }
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps({"versions": self.versions, "kinds": kinds}, indent=1) + "\n")
        temporary.replace(path)
