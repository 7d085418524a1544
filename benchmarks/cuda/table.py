"""The table of README.md: what is predicted for each shape, what was measured, and who was fastest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

__all__ = ["PREDICTED", "Measured", "Row", "fill", "rows_of", "winners"]

PREDICTED: dict[tuple[int, ...], str] = {
    (4096, 128): "75 to 85 %",
    (32768, 128): "72 to 85 %",
    (4096, 1024): "72 to 85 %",
    (32768, 1024): "90 to 96 %",
    (4096, 4096): "93 to 97 %",
    (32768, 4096): "95 to 98 %",
    (4096, 8192): "93 to 97 %",
    (32768, 8192): "95 to 98 %",
    (4096, 16384): "91 to 95 %",
    (32768, 16384): "92 to 96 %",
    (4096, 65536): "35 to 55 %",
    (1, 4096): "2.3 to 2.5 us",
}
"""For an H100 and bfloat16 by (rows, n): percent of the speed of a copy, or microseconds. From the number of
instructions and bytes of the kernels that read rows over 64 KB twice, before a GPU was there to ask."""

_BEGIN, _END = "<!-- table: begin -->\n", "<!-- table: end -->"


class Measured(NamedTuple):
    """One kernel at one shape: rows and n, or outer, n and inner."""

    shape: tuple[int, ...]
    is_cold: bool
    kernel: str
    microseconds: float
    copy: float
    """Microseconds of a copy of the same tensor."""


class Row(NamedTuple):
    """What the table shows of a shape."""

    ours: Measured | None = None
    """As it chooses for itself."""
    early: Measured | None = None
    """The same with programmatic dependent launch."""
    other: Measured | None = None
    """The fastest of the others, whose tactics of ours are none."""


def winners(results: Iterable[Measured]) -> dict[tuple[int, ...], Row]:
    """By shape, of tensors that are not in the L2."""
    by_shape: dict[tuple[int, ...], dict[str, Measured]] = {}
    for result in results:
        if result.is_cold:
            by_shape.setdefault(tuple(result.shape), {})[result.kernel] = result
    found = {}
    for shape, kernels in by_shape.items():
        others = [result for name, result in kernels.items() if not name.startswith(("ours", "copy"))]
        fastest = min(others, key=lambda result: result.microseconds, default=None)
        found[shape] = Row(kernels.get("ours"), kernels.get("ours, early"), fastest)
    return found


def rows_of(results: Iterable[Measured] = ()) -> list[str]:
    """The lines of the table; empty cells where nothing was measured."""
    found = winners(results)
    lines = ["| shape | predicted | ours | launched early | fastest other | who wins |", "|---|--:|--:|--:|--:|---|"]
    for shape in dict.fromkeys([*PREDICTED, *found]):
        row = found.get(shape, Row())
        cells = [" x ".join(map(str, shape)), PREDICTED.get(shape, ""), *map(_said, row), _winner(row.ours, row.other)]
        lines.append("|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|")
    return lines


def fill(readme: Path, results: Iterable[Measured], title: str) -> None:
    """Put the measured figures into the table of `readme`, with a line that says on what they were measured."""
    before, rest = readme.read_text().split(_BEGIN)
    after = rest.split(_END)[1]
    table = "\n".join([title, "", *rows_of(results)])
    readme.write_text(f"{before}{_BEGIN}{table}\n{_END}{after}")


def _said(result: Measured | None) -> str:
    if result is None:
        return ""
    name = "" if result.kernel.startswith("ours") else f"{result.kernel} "
    return f"{name}{result.microseconds:.2f} us, {100 * result.copy / result.microseconds:.0f} %"


def _winner(ours: Measured | None, other: Measured | None) -> str:
    """A difference of one percent is none: the clock of a GPU moves by that much."""
    if ours is None or other is None:
        return ""
    ratio = other.microseconds / ours.microseconds
    if abs(ratio - 1) <= 0.01:
        return "even"
    return f"ours, {ratio:.2f}x" if ratio > 1 else f"{other.kernel}, {1 / ratio:.2f}x"
