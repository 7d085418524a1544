"""A benchmark as one HTML file that needs nothing else: no network, no scripts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from rms_deploy.benchmark.operator_times import OperatorTimes
from rms_deploy.benchmark.provenance import Provenance
from rms_deploy.benchmark.report import table
from rms_deploy.benchmark.report.figures import drawings
from rms_deploy.benchmark.report.numbers import duration, ratio
from rms_deploy.benchmark.report.summary import summary
from rms_deploy.benchmark.result import BenchmarkResult, parts, point_name
from rms_deploy.display import Table
from rms_deploy.errors import MissingDependencyError
from rms_deploy.fusion.near_miss import NearMiss
from rms_deploy.fusion.norm import Norm
from rms_deploy.fusion.norm_tables import near_miss_table, norm_table
from rms_deploy.ops.forms import NormForm
from rms_deploy.output_file import atomic_path, check_output

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
except ImportError as error:
    raise MissingDependencyError("jinja2 is not installed; run: pip install jinja2 matplotlib") from error

__all__ = ["page", "write_page"]

_COLOURS: Final = {"faster": "good", "equal": "good", "slower": "bad", "NOT equal": "bad"}
"""The colour of a verdict; of any other, that of what is not known."""

_OPERATORS = 12
"""Number of operators that are listed of each candidate, the longest first."""


def page(result: BenchmarkResult) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    header, rows = table.header(result), table.rows(result)
    return environment.get_template("page.html.jinja").render(
        result=result,
        title=_title(result),
        sentences=list(summary(result)),
        verdicts=_verdicts(result),
        tone=_tone(result),
        colours=_COLOURS,
        results=_columns(header[:-3], [row[:-3] for row in rows]),
        costs=_columns((*header[:3], *header[-3:]), [(*row[:3], *row[-3:]) for row in rows]),
        failures=list(table.failures(result)),
        drawings=drawings(result),
        shares=_columns(table.SHARES_HEADER, table.category_shares(result)),
        operators=_operators(result),
        norms=_norms(result),
        near_misses=_near_misses(result),
        counts=[
            (c.name, ", ".join(f"{n} {what}" for what, n in c.norm_counts.items()))
            for c in result.candidates
            if c.norm_counts
        ],
        places=_places(result),
        memory_before=table.memory(min((c.memory_before for c in result.candidates if c.memory_before), default=None)),
        shapes={point_name(p): ", ".join(f"{n} {list(s)}" for n, s in p.shapes.items()) for p in result.points},
    )


def write_page(result: BenchmarkResult, path: str | os.PathLike[str]) -> None:
    """Write the page to `path`, whole or not at all.

    Raises:
        OutputError: `path` cannot be written.
    """
    check_output(path)
    text = page(result)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _verdicts(result: BenchmarkResult) -> list[tuple[str, str]]:
    """What is shown of each comparison, and its verdict: of the last point of each part, and of each verification."""
    shown: list[tuple[str, str]] = []
    for point in (part[-1] for part in parts(result)):
        at = f" at {point_name(point)}" if point_name(point) else ""
        shown += [
            (f"{candidate.name}{at}: {ratio(candidate.speedup.value)}x", candidate.speedup.verdict)
            for candidate in point.candidates[1:]
            if candidate.speedup is not None
        ]
    for found in result.verifications:
        verdict = {True: "equal", False: "NOT equal"}.get(found["passed"], "not verified")
        if found["passed"] and found.get("compared") == "numbers only":
            verdict = "numbers equal, formula not compared"
        shown.append((f"outputs of {found['candidate']['model']}", verdict))
    return shown


def _tone(result: BenchmarkResult) -> str:
    """The colour of the conclusion: bad if anything is, good if anything is and nothing is bad."""
    found = {_COLOURS.get(verdict) for _, verdict in _verdicts(result)}
    if result.failed or "bad" in found:
        return "bad"
    return "good" if "good" in found else "open"


def _norms(result: BenchmarkResult) -> Table:
    """The norms of the first model; those of repeated layers share a row."""
    norms = (Norm(**{**norm, "form": NormForm(norm["form"])}) for norm in result.inspection.get("norms", []))
    return norm_table(norms).without_empty_columns()


def _near_misses(result: BenchmarkResult) -> Table:
    return near_miss_table(NearMiss(**miss) for miss in result.inspection.get("near_misses", []))


def _places(result: BenchmarkResult) -> list[Provenance]:
    """Where the points were measured; each machine with the same packages once, as it was when it was first used."""
    found = (point.provenance or result.provenance for point in result.points)
    return list({(place.machine.hardware, place.packages): place for place in reversed(list(found))}.values())[::-1]


def _title(result: BenchmarkResult) -> str:
    models = dict.fromkeys(Path(candidate.model).name for candidate in result.candidates)
    return " and ".join(models) if len(models) < 3 else f"{len(models)} models"


def _columns(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows without the columns that are empty in every row."""
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    return [header[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _operators(result: BenchmarkResult) -> list[dict[str, Any]]:
    """The operator times of each candidate at the last point, and the bandwidth of its norms."""
    found = []
    for candidate in result.points[-1].candidates:
        times = candidate.operator_times
        if times is None:
            continue
        lines = [
            (o.category, o.name, f"{o.calls:g}", duration(o.microseconds), f"{_percent(o.microseconds, times):.1f} %")
            for o in times.operators[:_OPERATORS]
        ]
        rest = sum(o.microseconds for o in times.operators[_OPERATORS:])
        if rest:
            lines.append(("", "others", "", duration(rest), f"{_percent(rest, times):.1f} %"))
        note = (
            f"{times.runs} runs were profiled. The profiler adds {times.overhead:.1f} us to each node, and these are "
            "subtracted."
        )
        if times.bandwidth is not None and times.copy_microseconds is not None:
            note += (
                f" The norms of one run read and write {times.norm_bytes / 2**20:.2f} MiB in "
                f"{duration(times.microseconds('norms'))}. Plain copies of as many bytes take "
                f"{duration(times.copy_microseconds)}: the norms run at {100 * times.bandwidth:.0f} % of the "
                "measured speed of memory."
            )
        found.append({"name": candidate.name, "lines": lines, "note": note})
    return found


def _percent(microseconds: float, times: OperatorTimes) -> float:
    return 100 * microseconds / times.microseconds() if times.microseconds() else 0.0
