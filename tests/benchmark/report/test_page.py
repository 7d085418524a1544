"""The page: one file, nothing fetched, every name escaped; in a real browser, no errors and every figure drawn."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rms_deploy.errors import OutputError

from ..made_result import result

pytest.importorskip("matplotlib", reason='needs matplotlib, of the extra "report"')
pytest.importorskip("jinja2", reason='needs jinja2, of the extra "report"')

from rms_deploy.benchmark.report.drawing import SERIES
from rms_deploy.benchmark.report.page import page, write_page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH")

FIGURES = 6
"""In the page of a sweep; one fewer in others."""

PROBE = """
<script>
window.addEventListener("load", () => {
  const figures = [...document.querySelectorAll("figure")].map(figure => {
    const svg = figure.querySelector("svg"), box = svg.getBoundingClientRect(), drawn = svg.getBBox();
    const paths = [...svg.querySelectorAll("path, use, polyline, rect")].map(p => getComputedStyle(p));
    const colours = new Set(paths.flatMap(s => [s.stroke, s.fill]));
    return {title: figure.querySelector("h3").textContent, width: box.width, height: box.height,
            drawn: drawn.width * drawn.height, colours: colours.size, texts: svg.querySelectorAll("text").length,
            right: box.right};
  });
  const root = document.documentElement;
  const background = getComputedStyle(document.body).backgroundColor;
  const text = {figures, width: root.scrollWidth, window: innerWidth, background};
  document.body.innerHTML = "<pre id=probe>" + btoa(unescape(encodeURIComponent(JSON.stringify(text)))) + "</pre>";
});
</script>
"""


class _Tags(HTMLParser):
    """All tags opened and closed in order, and every attribute."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_one_well_formed_file_that_fetches_nothing():
    text = page(result())
    tags = _Tags()
    tags.feed(text)
    assert tags.open == []
    assert not {"script", "link", "img", "iframe"} & set(tags.seen)
    assert all(link.startswith("#") for link in tags.links)
    assert "@import" not in text
    assert set(re.findall(r"url\(([^)]{1,2})", text)) <= {"#p"}
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert {link[1:] for link in tags.links} <= set(ids)


def test_every_colour_has_a_light_and_a_dark_value():
    text = page(result())
    for name in ("text", "line", *(f"series-{index}" for index in range(SERIES))):
        assert text.count(f"--{name}: #") >= 2, name


def test_names_are_escaped():
    text = page(result())
    assert "<m&1>" not in text
    assert "&lt;m&amp;1&gt;.onnx" in text
    assert "| <b>" not in text


def test_what_the_page_says():
    text = page(result())
    for part in (
        "At seq 1, fused is 1.25 times as fast as decomposed (95 % interval 1.25 ... 1.25).",
        "At seq 128, norms take this part of the time of a run: 14 % of decomposed, 4 % of fused.",
        "standard at seq 16 FAILED: 1 of 2 norms cannot take this form",
        "fused at seq 1: still drifted after 1 s of warm-up",
        "Operators of fused",
        "30 % of the measured speed of memory",
        "layers.0.norm",
        "div_3: epsilon is 2",
        "5 launches, each warmed up until the latency drifts no more, 1 s at most.",
        "a processor, 2 of 2 cores",
        "onnxruntime 1.32.0",
        "--compare decomposed,fused,standard",
    ):
        assert part in text, part


def test_the_same_result_gives_the_same_page():
    assert page(result()) == page(result())


def test_the_page_is_written_whole_or_not_at_all(tmp_path):
    write_page(result(), tmp_path / "out.html")
    assert [path.name for path in tmp_path.iterdir()] == ["out.html"]
    with pytest.raises(OutputError, match="does not exist; create it first"):
        write_page(result(), tmp_path / "missing" / "out.html")


def browse(path: Path, *options: str) -> subprocess.CompletedProcess:
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"]
    command += ["--enable-logging=stderr", f"--user-data-dir={path.parent / 'profile'}", "--virtual-time-budget=10000"]
    return subprocess.run([*command, *options, path.as_uri()], capture_output=True, text=True, timeout=120, check=True)


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("sweep", [True, False])
@pytest.mark.parametrize(
    ("width", "scheme", "background"), [(1200, 1, "rgb(255, 255, 255)"), (500, 0, "rgb(20, 23, 27)")]
)
def test_a_browser_draws_every_figure_without_an_error(tmp_path, width, scheme, background, sweep):
    made = result(sweep=sweep)
    file = tmp_path / "page.html"
    file.write_text(page(made).replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    done = browse(file, f"--window-size={width},900", f"--blink-settings=preferredColorScheme={scheme}", "--dump-dom")
    assert "CONSOLE" not in done.stderr, done.stderr
    probe = json.loads(base64.b64decode(re.search(r"<pre id=\"probe\">([^<]+)<", done.stdout)[1]))
    assert len(probe["figures"]) == (FIGURES if sweep else FIGURES - 1)
    assert probe["background"] == background
    assert probe["width"] <= probe["window"], "nothing is wider than the window"
    for figure in probe["figures"]:
        assert figure["width"] > 300, figure
        assert figure["height"] > 100, figure
        assert figure["drawn"] > 100, figure
        assert figure["colours"] >= 4, figure
        assert figure["texts"] > 4, figure
        assert figure["right"] <= probe["window"], figure


@needs_browser
@pytest.mark.slow
def test_an_error_in_the_page_would_be_seen(tmp_path):
    """The test above can fail."""
    file = tmp_path / "page.html"
    file.write_text("<!doctype html><script>nonsense()</script>", encoding="utf-8")
    assert "CONSOLE" in browse(file, "--dump-dom").stderr


@needs_browser
@pytest.mark.slow
def test_a_screenshot_is_made(tmp_path):
    write_page(result(), tmp_path / "page.html")
    browse(tmp_path / "page.html", "--window-size=1200,2400", f"--screenshot={tmp_path / 'page.png'}")
    assert (tmp_path / "page.png").stat().st_size > 50_000
