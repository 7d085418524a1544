"""A table on stdout: drawn on a terminal, plain aligned columns in a pipe, however wide."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from rms_deploy.cli.console import stdout

__all__ = ["print_table"]


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print one line a row; all columns but the first `left` hold numbers and stand to the right.

    A column that is empty in every row is left out.
    """
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    if stdout.is_terminal:
        table = Table()
        for i in kept:
            table.add_column(header[i], justify="left" if i < left else "right", overflow="fold")
        for row in rows:
            table.add_row(*(Text(row[i]) for i in kept))
        stdout.print(table)
        return
    lines = [header, *rows]
    widths = {i: max(len(line[i]) for line in lines) for i in kept}
    for line in lines:
        cells = (line[i].ljust(widths[i]) if i < left else line[i].rjust(widths[i]) for i in kept)
        stdout.print("  ".join(cells).rstrip(), markup=False, soft_wrap=True)
