"""The figures of a report: which there are, and how each is plotted."""

from __future__ import annotations

from collections.abc import Sequence

from rms_deploy.benchmark.latency import Latency
from rms_deploy.benchmark.operator_times import CATEGORIES
from rms_deploy.benchmark.report.drawing import SERIES_COLOURS, TEXT, Drawing, colours, draw
from rms_deploy.benchmark.result import BenchmarkResult, CandidateResult, Point, parts, point_name
from rms_deploy.errors import MissingDependencyError

try:
    from matplotlib.axes import Axes
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise MissingDependencyError("matplotlib is not installed; run: pip install jinja2 matplotlib") from error

__all__ = ["drawings"]


def drawings(result: BenchmarkResult) -> list[Drawing]:
    """The figures for which there are numbers."""
    last = result.points[-1]
    at = f" at {point_name(last)}" if point_name(last) else ""
    measured = [c for c in last.candidates if c.latency is not None]
    compared = [c for c in measured if c.speedup is not None and c.speedup.low is not None]
    timed = [c for c in measured if c.operator_times is not None]
    found = []
    if measured:
        caption = "Line: 10 to 90 % of the runs; bar: the middle half; dot: median."
        found.append(draw(f"Latency{at}", caption, _spread, measured, rows=len(measured)))
    if compared:
        caption = f"Times faster than {last.candidates[0].name}, with the 95 % interval; 1 is equal."
        found.append(draw(f"Speed{at}", caption, _speedups, compared, rows=len(measured)))
    if measured:
        caption = "Share of the runs that took at most so long; cut at twice the largest median."
        found.append(draw(f"Distribution of latency{at}", caption, _distribution, measured))
    if measured and max(sum(map(len, c.latency.round_medians)) for c in measured if c.latency is not None) > 1:
        caption = "Median of each round of each launch. A slow phase of the machine shows in all, as they take turns."
        found.append(draw(f"Rounds{at}", caption, _rounds, measured))
    if timed:
        caption = "The median run, divided in proportion to the operator times."
        found.append(draw(f"Where the time goes{at}", caption, _time, timed, rows=len(timed) + 1))
    for points in parts(result):
        if len(points) > 1 and any(c.latency is not None for point in points for c in point.candidates):
            of = f" of {points[0].part}" if points[0].part else ""
            found.append(draw(f"Latency over sizes{of}", "Median, with its 95 % interval.", _sweep, points))
    return found


def _names(axes: Axes, candidates: Sequence[CandidateResult]) -> None:
    """A row for each candidate, the first on top."""
    axes.set_yticks(range(len(candidates)), [_short(c.name) for c in candidates])
    axes.set_ylim(len(candidates) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _short(name: str, limit: int = 26) -> str:
    """The end of the name. A space of no width before an underscore keeps matplotlib from hiding the label."""
    name = name if len(name) <= limit else f"...{name[-limit + 3 :]}"
    return f"\u200b{name}" if name.startswith("_") else name


def _latencies(candidates: Sequence[CandidateResult]) -> list[Latency]:
    return [c.latency for c in candidates if c.latency is not None]


def _unit(microseconds: float) -> tuple[float, str]:
    return (1e-3, "ms") if microseconds >= 1000 else (1.0, "microseconds")


def _spread(axes: Axes, candidates: Sequence[CandidateResult]) -> None:
    latencies = _latencies(candidates)
    factor, unit = _unit(max(latency.median for latency in latencies))
    for row, (latency, colour) in enumerate(zip(latencies, colours(), strict=False)):
        quantiles = [factor * value for value in latency.quantiles]
        axes.hlines(row, quantiles[10], quantiles[90], color=colour, linewidth=1.5)
        axes.hlines(row, quantiles[25], quantiles[75], color=colour, linewidth=7)
        axes.plot([quantiles[50]], [row], "o", color=TEXT, markersize=4)
    _names(axes, candidates)
    axes.set_xlim(left=0)
    axes.set_xlabel(unit)


def _distribution(axes: Axes, candidates: Sequence[CandidateResult]) -> None:
    latencies = _latencies(candidates)
    factor, unit = _unit(max(latency.median for latency in latencies))
    for candidate, latency, colour in zip(candidates, latencies, colours(), strict=False):
        quantiles = [factor * value for value in latency.quantiles]
        axes.plot(quantiles, range(len(quantiles)), color=colour, label=_short(candidate.name))
    axes.set_xlim(factor * 0.9 * min(each.minimum for each in latencies), factor * 2 * max(e.median for e in latencies))
    axes.set_xlabel(unit)
    axes.set_ylabel("% of runs")
    _legend(axes)


def _speedups(axes: Axes, candidates: Sequence[CandidateResult]) -> None:
    axes.axvline(1, color=TEXT, linewidth=1)
    for row, (candidate, colour) in enumerate(
        zip(candidates, list(SERIES_COLOURS[1:]) * len(candidates), strict=False)
    ):
        speedup = candidate.speedup
        if speedup is not None and speedup.low is not None and speedup.high is not None:
            axes.hlines(row, speedup.low, speedup.high, color=colour, linewidth=3)
            axes.plot([speedup.value], [row], "o", color=TEXT, markersize=4)
    _names(axes, candidates)
    axes.set_xlabel("times faster")


def _time(axes: Axes, candidates: Sequence[CandidateResult]) -> None:
    """Shares of the median latency, not the operator times: candidates took turns for the latency only."""
    found = [(c.operator_times, c.latency.median) for c in candidates if c.operator_times and c.latency]
    factor, unit = _unit(max(median for _, median in found))
    starts = [0.0] * len(found)
    for category, colour in zip(CATEGORIES, (SERIES_COLOURS[1], SERIES_COLOURS[0], SERIES_COLOURS[4]), strict=True):
        widths = [factor * median * times.share(category) for times, median in found]
        axes.barh(range(len(found)), widths, left=starts, height=0.6, color=colour, label=category)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    _names(axes, candidates)
    axes.set_xlabel(f"{unit} in one run")
    _legend(axes)


def _rounds(axes: Axes, candidates: Sequence[CandidateResult]) -> None:
    latencies = _latencies(candidates)
    factor, unit = _unit(max(latency.median for latency in latencies))
    for candidate, latency, colour in zip(candidates, latencies, colours(), strict=False):
        label, begin = _short(candidate.name), 1
        for rounds in latency.round_medians:  # a line for each launch, so that steps between them show
            numbers = range(begin, begin + len(rounds))
            axes.plot(numbers, [factor * m for m in rounds], ".-", color=colour, linewidth=1, label=label)
            label, begin = "", begin + len(rounds)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("round")
    axes.set_ylabel(unit)
    _legend(axes)


def _sweep(axes: Axes, points: Sequence[Point]) -> None:
    names = dict.fromkeys(c.name for point in points for c in point.candidates)
    for name, colour in zip(names, colours(), strict=False):
        found = [
            (index, c.latency)
            for index, point in enumerate(points)
            for c in point.candidates
            if c.name == name and c.latency is not None
        ]
        below = [0.0 if one.low is None else max(0.0, one.median - one.low) for _, one in found]
        above = [0.0 if one.high is None else max(0.0, one.high - one.median) for _, one in found]
        indices, heights = [index for index, _ in found], [one.median for _, one in found]
        axes.errorbar(indices, heights, [below, above], fmt=".-", color=colour, linewidth=1.2, label=_short(name))
    axes.set_xticks(range(len(points)), [",".join(map(str, point.dims.values())) for point in points])
    axes.set_xlabel(", ".join(points[0].dims))
    medians = [c.latency.median for point in points for c in point.candidates if c.latency is not None]
    if max(medians) > 10 * min(medians):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_ylabel("microseconds")
    _legend(axes)


def _legend(axes: Axes) -> None:
    """The legend below the axes, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(handles, labels, loc="outside lower center", ncols=1 if max(map(len, labels)) > 14 else 3)
