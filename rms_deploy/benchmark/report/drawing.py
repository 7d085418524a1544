"""A drawing: one figure as SVG that takes its colours from the page around it, in light and dark.

Drawn by matplotlib: it needs no script and no network in the page, its text stays text, and it prints.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rms_deploy.errors import MissingDependencyError

try:
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingDependencyError("matplotlib is not installed; run: pip install jinja2 matplotlib") from error

__all__ = ["SERIES", "SERIES_COLOURS", "TEXT", "Drawing", "colours", "draw"]

SERIES: Final = 8
"""Number of colours of series that the page must define: --series-0 and so on, beside --text and --line."""

TEXT: Final = "#0a0b01"
_LINE: Final = "#0a0b02"
SERIES_COLOURS: Final = tuple(f"#0a0c{index:02x}" for index in range(SERIES))
_VARIABLES: Final = {
    TEXT: "var(--text)",
    _LINE: "var(--line)",
    **{colour: f"var(--series-{index})" for index, colour in enumerate(SERIES_COLOURS)},
}
"""The page's variables, and the colours that stand for them while matplotlib draws; nothing else has these."""

_STYLE: Final[Any] = {  # matplotlib types its keys one by one
    "svg.fonttype": "none",
    "svg.hashsalt": "rms-deploy",
    "font.size": 9.5,
    "text.color": TEXT,
    "text.parse_math": False,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": _LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "legend.frameon": False,
    "legend.fontsize": "small",
}

_WIDTH: Final = 4.6
"""Inches: about the width of a phone, on which the text then has its own size."""


@dataclass(frozen=True)
class Drawing:
    """One figure."""

    title: str
    caption: str
    svg: str


def draw(title: str, caption: str, plot: Callable[[Axes, Any], None], data: Sequence[Any], rows: int = 6) -> Drawing:
    """Draw one figure.

    Args:
        title: above it.
        caption: below it.
        plot: draws the data into the axes.
        data: what `plot` takes.
        rows: that the figure shows, which decide its height.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 1.1 + 0.36 * min(rows, 24)), layout="constrained")
        plot(figure.add_subplot(), data)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True)
    return Drawing(title, caption, _inline(file.getvalue()))


def _inline(text: str) -> str:
    """The svg element without its size, its metadata, and the ids that nothing refers to."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg [^>]*?)\s(?:width|height)="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?)\s(?:width|height)="[^"]*"', r"\1", text, count=1)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return text


def colours() -> Iterator[str]:
    """The colours of the series, over and over."""
    while True:
        yield from SERIES_COLOURS
