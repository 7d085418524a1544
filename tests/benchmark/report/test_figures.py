"""Every figure for which there are numbers, with names as they are."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from ..made_result import result

pytest.importorskip("matplotlib", reason='needs matplotlib, of the extra "report"')

from matplotlib.figure import Figure

from rms_deploy.benchmark.report import figures
from rms_deploy.benchmark.report.figures import drawings

FIGURES = ["Latency", "Speed", "Distribution of latency", "Rounds", "Where the time goes", "Latency over sizes"]


def test_every_figure_is_there_and_takes_its_colours_from_the_page():
    found = drawings(result())
    assert [re.sub(" at .*", "", drawing.title) for drawing in found] == FIGURES
    assert [re.sub(" at .*", "", drawing.title) for drawing in drawings(result(sweep=False))] == FIGURES[:-1]
    for drawing in found:
        assert not re.search(r"#0a0[bc]", drawing.svg)
        used = set(re.findall(r"var\((--[\w-]+)\)", drawing.svg))
        assert {"--text", "--line"} < used


@pytest.mark.parametrize("name", ["_a.onnx", r"$\x$.onnx"])
def test_a_name_is_drawn_as_it_is(name):
    """matplotlib has no legend for a name with an underscore in front, and reads what is between dollars as TeX."""
    points = [replace(p, candidates=tuple(replace(c, name=name) for c in p.candidates)) for p in result().points]
    for drawing in drawings(replace(result(), points=tuple(points))):
        assert name in drawing.svg, drawing.title


def test_the_axis_of_the_speed_begins_at_0():
    """So that 12 % look like 12 %."""
    axes = Figure().add_subplot()
    figures._speedups(axes, result().candidates[1:2])
    left, right = axes.get_xlim()
    assert left == 0
    assert right > result().candidates[1].speedup.value
    (bar,) = axes.patches
    assert (bar.get_x(), bar.get_width()) == (0, result().candidates[1].speedup.value)
