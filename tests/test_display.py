"""How results show themselves: every public function returns one that is short as text and a table in a notebook."""

from __future__ import annotations

import inspect
import json
from html.parser import HTMLParser
from typing import Any

import pytest

import rms_deploy
from rms_deploy.display import Displayed, Table

from .made_results import every_result

NO_RESULT = ("onnxruntime_library", "session", "tensorrt_library")
"""Functions that return a path or a session."""
RESULTS = every_result()
HEADER = ("name", "note", "value", "empty")
ROWS = [("a<b>", "", "1", ""), ("c & d", "x", "2.5", "")]


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002 - the parser's signature
        self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def cells(html: str) -> list[str]:
    """The texts of the cells of well-formed HTML."""
    tags = _Tags()
    tags.feed(html)
    assert not tags.open
    return tags.cells


def test_a_table_as_html() -> None:
    table = Table(HEADER, ROWS, left=2)
    html = table.as_html()
    assert cells(html) == ["name", "note", "value", "a<b>", "", "1", "c & d", "x", "2.5"]
    assert html.count('align: left">') == 6
    assert "<b>" not in html
    assert Table(HEADER, []).as_html() == ""


def test_columns_that_are_empty() -> None:
    table = Table(HEADER, [("a", "", "1", "")], left=2, first_to_go=("name",)).without_empty_columns()
    assert (table.header, table.rows, table.left, table.first_to_go) == (["name", "value"], [["a", "1"]], 1, ("name",))


def test_every_function_returns_such_a_result() -> None:
    functions = {name for name in rms_deploy.__all__ if inspect.isfunction(getattr(rms_deploy, name))}
    assert functions - {"swap", *NO_RESULT} == RESULTS.keys()
    for name, result in RESULTS.items():
        assert inspect.signature(getattr(rms_deploy, name)).return_annotation == type(result).__name__


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_one_short_line_and_json(name: str) -> None:
    result: Any = RESULTS[name]
    assert isinstance(result, Displayed)
    text = repr(result)
    assert text.startswith(f"<{type(result).__name__}: ")
    assert "\n" not in text
    assert len(text) < 200, text
    assert str(result) == text
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.parametrize("name", [name for name in RESULTS if name != "export"])
def test_a_notebook_shows_a_table(name: str) -> None:
    result: Any = RESULTS[name]
    (table, *_) = (table.without_empty_columns() for table in result.tables())
    assert cells(result._repr_html_())[: len(table.header)] == list(table.header)
    assert table.rows


def test_a_report_of_swapped_modules() -> None:
    torch = pytest.importorskip("torch")
    report = rms_deploy.swap(torch.nn.Sequential(torch.nn.RMSNorm(8, eps=1e-5)))
    assert repr(report) == "<SwapReport: 1 swapped, 0 kept>"
    assert list(report.to_dict()["swapped"]) == ["0"]
    assert cells(report._repr_html_())[:3] == ["module", "norm", "0"]
