"""A drawing is SVG for the inside of a page: no size, no colours of its own, nothing that is not used."""

from __future__ import annotations

import re
from itertools import islice

import pytest

pytest.importorskip("matplotlib", reason='needs matplotlib, of the extra "report"')

from rms_deploy.benchmark.report.drawing import SERIES, SERIES_COLOURS, colours, draw


def plot(axes, values):
    axes.plot(values, color=SERIES_COLOURS[3], label="a")


def test_the_svg_takes_colours_from_the_page_and_its_size_too():
    made = draw("Title", "Caption", plot, [1, 2, 3])
    assert (made.title, made.caption) == ("Title", "Caption")
    opening = re.match(r"<svg [^>]*>", made.svg)[0]
    assert "viewBox" in opening
    assert "width" not in opening
    assert "var(--series-3)" in made.svg
    assert not re.search(r"#0a0[bc]|<metadata", made.svg)


def test_more_rows_are_a_higher_figure():
    heights = [float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', draw("", "", plot, [1], n).svg)[1]) for n in (1, 6)]
    assert heights[0] < heights[1]


def test_the_colours_begin_again():
    assert list(islice(colours(), SERIES + 1)) == [*SERIES_COLOURS, SERIES_COLOURS[0]]
