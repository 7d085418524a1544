"""Tables on stdout: plain columns, which wrap, and of which the least important go where the line is short."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rms_deploy.cli import table
from rms_deploy.display import Table

ROWS = [("a[b]", "1", "", "x"), ("long name", "22.5", "", "")]
HEADER = ("name", "value", "empty", "note")
TIMES = Table(
    ("candidate", "times faster", "95 % interval", "load"),
    [("decoder.onnx without our library", "1.10x", "1.09 ... 1.10", "3.5 ms")],
    first_to_go=("load", "candidate"),
)


def printed(monkeypatch, made, width, **options):
    screen = io.StringIO()
    monkeypatch.setattr(table, "stdout", Console(file=screen, width=width, color_system=None, **options))
    table.print_table(made)
    return screen.getvalue()


def test_plain_columns_in_a_pipe(monkeypatch):
    text = "name       value  note\na[b]           1     x\nlong name   22.5\n"
    assert printed(monkeypatch, Table(HEADER, ROWS), 80) == text


def test_the_same_on_a_terminal(monkeypatch):
    lines = printed(monkeypatch, Table(HEADER, ROWS), 80, force_terminal=True).splitlines()
    assert [line.rstrip() for line in lines] == printed(monkeypatch, Table(HEADER, ROWS), 80).splitlines()


def test_headers_and_words_wrap_before_a_column_goes(monkeypatch):
    assert printed(monkeypatch, TIMES, 55) == (
        "                           times\n"
        "candidate                 faster  95 % interval    load\n"
        "decoder.onnx without our   1.10x  1.09 ... 1.10  3.5 ms\n"
        "library\n"
    )


def test_columns_go_and_are_named(monkeypatch):
    lines = printed(monkeypatch, TIMES, 47).splitlines()
    assert lines[1].split() == ["candidate", "faster", "95", "%", "interval"]
    assert lines[-1] == "no room for: load"
    assert max(map(len, lines)) <= 47


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_is_cut_where_there_is_no_room_at_all(monkeypatch, terminal):
    long = Table(("node", "reason"), [("/model/layers.0/norm/ReduceMean", "the epsilon is 2")], left=2)
    lines = printed(monkeypatch, long, 20, force_terminal=terminal).splitlines()
    assert lines[1].startswith("/model/layers.0/norm/ReduceMean  the")


def test_nothing_is_no_table(monkeypatch):
    assert printed(monkeypatch, Table(HEADER, []), 80) == ""


def test_what_has_to_wrap_most_gets_the_room(monkeypatch):
    made = Table(("a", "b"), [("one two three four five six", "so many words " * 6)], left=2)
    lines = printed(monkeypatch, made, 60).splitlines()
    assert lines[1] == "one two three four five   so many words so many words so"
    assert len(lines) == 4
