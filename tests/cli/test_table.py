"""Tables: drawn on a terminal, plain columns in a pipe."""

from __future__ import annotations

import io

from rich.console import Console

from rms_deploy.cli import table

ROWS = [("a[b]", "1", "", "x"), ("long name", "22.5", "", "")]
HEADER = ("name", "value", "empty", "note")


def test_plain_columns_in_a_pipe(capsys):
    table.print_table(HEADER, ROWS)
    assert capsys.readouterr().out == "name       value  note\na[b]           1     x\nlong name   22.5\n"


def test_drawn_on_a_terminal(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(table, "stdout", Console(file=screen, force_terminal=True, width=40, color_system=None))
    table.print_table(HEADER, ROWS)
    drawn = screen.getvalue()
    assert "│ long name │  22.5 │      │" in drawn
    assert "a[b]" in drawn
    assert "empty" not in drawn
