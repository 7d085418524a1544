"""How a result shows itself: one line of text, and tables that a notebook draws and the command line prints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Displayed", "Table"]


@dataclass(frozen=True)
class Table:
    """A table whose cells are text."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    """So many columns hold words and stand to the left; the others hold numbers and stand to the right."""
    first_to_go: Sequence[str] = ()
    """Names of the columns that a narrow line leaves out, the least important first."""

    def without_empty_columns(self) -> Table:
        """The table without the columns that are empty in every row."""
        kept = [i for i in range(len(self.header)) if any(row[i] for row in self.rows)]
        return Table(
            [self.header[i] for i in kept],
            [[row[i] for i in kept] for row in self.rows],
            sum(i < self.left for i in kept),
            self.first_to_go,
        )

    def as_html(self) -> str:
        """An HTML table; empty where there are no rows."""
        shown = self.without_empty_columns()
        if not shown.rows:
            return ""
        sides = ["left" if i < shown.left else "right" for i in range(len(shown.header))]
        lines = [_html_row("th", shown.header, sides), *(_html_row("td", row, sides) for row in shown.rows)]
        return f"<table>{''.join(lines)}</table>"


class Displayed(ABC):
    """A result: its `repr` is one line, and a notebook shows that line and the tables under it.

    Its class says what they are by `_line` and `tables`.
    """

    @abstractmethod
    def _line(self) -> str:
        """The result in a line, without the name of its class."""

    def tables(self) -> Iterable[Table]:
        """What there is to list; nothing as a rule."""
        return ()

    def __repr__(self) -> str:
        """One line, whatever the size of the result."""
        return f"<{type(self).__name__}: {self._line()}>"

    def _repr_html_(self) -> str:
        """What IPython and Jupyter show."""
        return f"<p>{escape(self._line())}</p>" + "".join(table.as_html() for table in self.tables())


def _html_row(tag: str, cells: Sequence[str], sides: Sequence[str]) -> str:
    texts = (
        f'<{tag} style="text-align: {side}">{escape(cell)}</{tag}>' for cell, side in zip(cells, sides, strict=True)
    )
    return f"<tr>{''.join(texts)}</tr>"
