"""What became slower from one run of a benchmark to another, such as of two releases, beyond a limit and the noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rms_deploy.benchmark.latency import Latency
from rms_deploy.benchmark.result import BenchmarkResult, CandidateResult, point_name
from rms_deploy.errors import InputError

__all__ = ["Change", "RunComparison", "compare_runs"]

ChangeVerdict = Literal["regression", "faster", "slower", "within noise", "too few launches", "fails", "not in both"]


@dataclass(frozen=True)
class Change:
    """One candidate at one point, in both runs."""

    candidate: str
    at: str
    before: float | None
    """Median in microseconds; None: it failed, or was not in that run."""
    after: float | None
    verdict: ChangeVerdict
    """regression: the median grew beyond the limit, and the intervals of the two medians do not touch."""

    @property
    def change(self) -> float | None:
        """Relative change of the median: 0.05 is 5 % slower."""
        return None if self.before is None or self.after is None else self.after / self.before - 1


@dataclass(frozen=True)
class RunComparison:
    """What changed from one run to another. The two did not take turns, so their own intervals must tell the noise."""

    changes: tuple[Change, ...]
    warnings: tuple[str, ...]
    """What else differs between the runs: a slower machine is no regression."""
    max_regression: float

    @property
    def regressed(self) -> bool:
        """Whether a candidate became slower beyond the limit, or fails and did not fail before."""
        return any(change.verdict in ("regression", "fails") for change in self.changes)

    @property
    def undecided(self) -> bool:
        """Whether a candidate was not compared: it is not in both runs, or has too few launches."""
        return any(change.verdict in ("not in both", "too few launches") for change in self.changes)

    def to_dict(self) -> dict[str, Any]:
        """For JSON. Latencies are in microseconds."""
        changes = [{**asdict(change), "change": change.change} for change in self.changes]
        return {**asdict(self), "changes": changes, "regressed": self.regressed, "undecided": self.undecided}


def compare_runs(before: BenchmarkResult, after: BenchmarkResult, *, max_regression: float = 0.05) -> RunComparison:
    """Compare the candidates of two runs by their names.

    Args:
        before: the older run.
        after: the newer run.
        max_regression: how much a median may grow; 0.05 is 5 %.

    Raises:
        InputError: the runs have no candidate in common, or measured something else: other shapes, threads or clients.
    """
    if not 0 <= max_regression < float("inf"):
        raise InputError(f"`max_regression` is {max_regression}; use 0 or more, such as 0.05")
    old, new = _by_key(before), _by_key(after)
    if not old.keys() & new.keys():
        raise InputError(
            f"the runs have no candidate in common: {_names(old)} in the first, {_names(new)} in the second"
        )
    _require_same(before, after)
    keys = dict.fromkeys([*old, *new])
    return RunComparison(
        changes=tuple(_change(key, old.get(key), new.get(key), max_regression) for key in keys),
        warnings=tuple(_warnings(before, after)),
        max_regression=max_regression,
    )


def _by_key(result: BenchmarkResult) -> dict[tuple[str, str], CandidateResult]:
    return {(c.name, point_name(point)): c for point in result.points for c in point.candidates}


def _names(candidates: dict[tuple[str, str], CandidateResult]) -> str:
    return ", ".join(dict.fromkeys(" at ".join(filter(None, key)) for key in candidates))


def _require_same(before: BenchmarkResult, after: BenchmarkResult) -> None:
    for name in ("threads", "concurrency"):
        a, b = getattr(before.method, name), getattr(after.method, name)
        if a != b:
            raise InputError(f"{name} is {a} in the first run and {b} in the second; measure both alike")
    new = {point_name(point): point.shapes for point in after.points}
    for point in before.points:
        at = point_name(point)
        if at in new and new[at] != point.shapes:
            raise InputError(f"the inputs differ: {point.shapes} in the first run, {new[at]} in the second")


def _warnings(before: BenchmarkResult, after: BenchmarkResult) -> Iterator[str]:
    for name in ("cpu", "usable_cores", "system"):
        a, b = getattr(before.provenance.machine, name), getattr(after.provenance.machine, name)
        if a != b:
            yield f"{name} was {a} and is {b}"
    for name in dict.fromkeys([*before.provenance.versions, *after.provenance.versions]):
        versions = [result.provenance.versions.get(name, "absent") for result in (before, after)]
        if versions[0] != versions[1]:
            yield f"{name} was {versions[0]} and is {versions[1]}"


def _change(key: tuple[str, str], old: CandidateResult | None, new: CandidateResult | None, limit: float) -> Change:
    a = None if old is None else old.latency
    b = None if new is None else new.latency
    medians = None if a is None else a.median, None if b is None else b.median
    if old is None or new is None or a is None:
        return Change(*key, *medians, "not in both")
    return Change(*key, *medians, "fails" if b is None else _verdict(a, b, limit))


def _verdict(a: Latency, b: Latency, limit: float) -> ChangeVerdict:
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return "too few launches"
    if b.low > a.high:
        return "regression" if b.median > a.median * (1 + limit) else "slower"
    return "faster" if b.high < a.low else "within noise"
