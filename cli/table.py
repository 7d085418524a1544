"""A table on stdout that fits the line: 80 columns in a pipe, the terminal's width on one, or those of COLUMNS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from rich import table as rich_table
from rich.cells import cell_len
from rich.text import Text

from rms_deploy.cli.arguments import with_flags
from rms_deploy.cli.console import stdout
from rms_deploy.display import Table

__all__ = ["print_table"]

_GAP: Final = 2
_COMFORTABLE: Final = 24
"""Columns of text that words are wrapped in before a column is left out."""


def print_table(table: Table) -> None:
    """Print a table, with flags for the names of arguments. A column that is empty in every row is left out.

    Words wrap at spaces and numbers do not. Where the line is too short, the columns of `first_to_go` are left out one
    by one, and a line below the table names them. A word that is longer than the line makes the table wider: nothing is
    cut.
    """
    table = table.without_empty_columns()
    table = replace(table, rows=[[with_flags(cell) for cell in row] for row in table.rows])
    if not table.rows:
        return
    columns, gone = _fitting(table, stdout.width)
    widths = _widths(columns, stdout.width)
    drawn = rich_table.Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), width=_total(widths))
    for column, width in zip(columns, widths, strict=True):
        drawn.add_column(Text(column.cells[0]), justify="left" if column.is_text else "right", width=width)
    for row in zip(*(column.cells[1:] for column in columns), strict=True):
        drawn.add_row(*map(Text, row))
    _print(drawn)
    if gone:
        stdout.print(f"no room for: {', '.join(gone)}", markup=False, style="dim")


def _print(drawn: rich_table.Table) -> None:
    """Print a table as wide as it is; in a pipe, without the spaces that fill up the last column."""
    if stdout.is_terminal:
        stdout.print(drawn, crop=False)
        return
    with stdout.capture() as text:
        stdout.print(drawn, crop=False)
    for line in text.get().splitlines():
        stdout.print(line.rstrip(), markup=False, soft_wrap=True)


@dataclass(frozen=True)
class _Column:
    cells: Sequence[str]
    """The header first."""
    is_text: bool

    @property
    def full(self) -> int:
        """The width in which nothing wraps."""
        return max(map(cell_len, self.cells))

    @property
    def least(self) -> int:
        """The width in which no word is cut, and no number wraps."""
        whole = () if self.is_text else map(cell_len, self.cells[1:])
        return max((*whole, *(cell_len(word) for cell in self.cells for word in cell.split())), default=0)

    @property
    def comfortable(self) -> int:
        """The width in which text wraps into few lines."""
        return max(self.least, min(self.full, _COMFORTABLE)) if self.is_text else self.least


def _fitting(table: Table, width: int) -> tuple[list[_Column], list[str]]:
    """The columns that fit, and the names of those that do not."""
    columns = {
        name: _Column([name, *(row[i] for row in table.rows)], is_text=i < table.left)
        for i, name in enumerate(table.header)
    }
    gone = []
    for name in table.first_to_go:
        if _total([column.comfortable for column in columns.values()]) <= width:
            break
        if name in columns:
            del columns[name]
            gone.append(name)
    return list(columns.values()), [name for name in table.header if name in gone]


def _widths(columns: Sequence[_Column], width: int) -> list[int]:
    """The width of each column: what is over goes, one by one, to the column that has to wrap most."""
    full = [column.full for column in columns]
    widths = [column.comfortable for column in columns]
    if _total(widths) > width:
        widths = [column.least for column in columns]
    for _ in range(width - _total(widths)):
        widest = max(range(len(columns)), key=lambda i: full[i] / widths[i])
        widths[widest] += full[widest] > widths[widest]
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)
