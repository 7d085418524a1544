"""Every command and every block of Python in docs/ runs, in the order of its page, and every link leads somewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(page for page in DOCS.glob("*.md") if re.search(r"^```(?:bash|python)$", page.read_text(), re.MULTILINE))


def blocks(page: Path) -> list[tuple[str, str]]:
    return re.findall(r"^```(bash|python)\n(.+?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def extras(page: Path) -> str:
    """What the install line of a page asks for, or, of a page that has none, that of the first page."""
    line = r"pip install \"\.\[([a-z,]+)\]\""
    lines = re.findall(line, page.read_text()) or re.findall(line, (DOCS / "index.md").read_text())
    return ",".join(sorted(set(",".join(lines).split(","))))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The interpreter of a new environment with these extras, from a wheel of this clone, or RMS_DEPLOY_WHEEL."""
    folder = tmp_path_factory.mktemp("environments")

    @cache
    def wheel() -> str:
        if given := os.environ.get("RMS_DEPLOY_WHEEL"):
            return given
        command = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--wheel-dir",
            str(folder),
            str(DOCS.parent),
        ]
        subprocess.run(command, check=True)
        (built,) = folder.glob("*.whl")
        return str(built)

    @cache
    def made(names: str) -> Path:
        subprocess.run([sys.executable, "-m", "venv", str(folder / names)], check=True)
        found = folder / names / "bin" / "python"
        subprocess.run([str(found), "-m", "pip", "install", "-q", f"{wheel()}[{names}]"], check=True)
        return found

    return made


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_says_runs(page: Path, tmp_path: Path, python: Callable[[str], Path]) -> None:
    """In an environment that its own install line makes."""
    interpreter = python(extras(page))
    path = os.pathsep.join([str(interpreter.parent), os.environ["PATH"]])
    for language, text in blocks(page):
        command = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [str(interpreter), "-c"]
        done = subprocess.run(
            [*command, text],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        if expected := shown(page, text):
            assert [line.split() for line in expected.splitlines()] == [
                line.split() for line in done.stdout.splitlines()
            ]


NEEDS = {
    "cpu": r"rms-deploy (?:verify|bench|demo)\b|import onnxruntime|rms_deploy\.(?:verify|bench|session)\(",
    "export": r"rms-deploy export\b|rms_deploy\.export\(",
    "huggingface": r"from transformers|rms-deploy export (?!llama|vit|gru|t5|mamba)",
    "ray": r"--ray\b|rms_deploy\.sweep\(",
    "report": r"--report\b|--html\b",
    "rtx": r"--runtime tensorrt-rtx\b",
    "serving": r"--endpoint\b",
}
"""What in a command or a block of Python needs which extra."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_install_line_of_a_page_is_enough(page: Path) -> None:
    wanted = {extra for extra, use in NEEDS.items() for _, text in blocks(page) if re.search(use, text)}
    assert wanted <= set(extras(page).split(","))


def test_every_extra_that_a_page_names_is_one() -> None:
    project = (DOCS.parent / "pyproject.toml").read_text()
    declared = re.findall(r"^(\w+) = ", project.partition("[project.optional-dependencies]")[2], re.MULTILINE)
    for page in [*DOCS.glob("*.md"), DOCS.parent / "README.md"]:
        for names in re.findall(r"pip install (?:-e )?\"(?:\.|CLONE)\[([a-z,]+)\]\"", page.read_text()):
            assert set(names.split(",")) <= set(declared), page.name


def shown(page: Path, text: str) -> str | None:
    """The output that the page shows right after this block."""
    found = re.search(re.escape(text) + r"```\n+```text\n(.+?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return found and found[1]


def test_links_exist() -> None:
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)


def test_the_losses_of_the_paper_page_are_the_committed_ones() -> None:
    def rows(path: Path) -> list[str]:
        (section,) = re.findall(r"^##+ Loss.*?(?=^##|\Z)", path.read_text(), re.DOTALL | re.MULTILINE)
        return [line for line in section.splitlines() if line.startswith("|")]

    results = DOCS.parent / "benchmarks" / "paper" / "results"
    models = json.loads((results / "curves.json").read_text())["models"]
    assert rows(DOCS / "paper.md") == rows(results / "result.md")
    assert [row.split(" | ")[0] for row in rows(DOCS / "paper.md")[2:]] == [f"| {name}" for name in models]
    assert (DOCS / "paper-curves.svg").read_bytes() == (results / "curves.svg").read_bytes()


def test_the_figures_of_scale_are_the_committed_ones() -> None:
    """Seconds, rates and sizes of its first table, with the digits that it shows."""
    measured = json.loads((DOCS.parent / "benchmarks" / "cluster" / "result.json").read_text())
    page = (DOCS / "scale.md").read_text()
    shown = [
        f"{measured['sweep_point_seconds']:.1f} s",
        f"{measured['bench_point_seconds']:.1f} s",
        f"{1e3 * measured['call_seconds']:.1f} ms",
        f"{measured['connect_seconds']:.1f} s",
        f"{measured['send_mib_per_second']:.0f} MiB/s",
        f"{measured['write_mib_per_second']:.0f} MiB/s",
        f"{measured['hash_mib_per_second']:.0f} MiB/s",
        f"{measured['point_bytes'] / 1e3:.1f} kB",
        f"{measured['fuse_seconds']:.1f} s",
        f"{measured['build_seconds']:.1f} s",
        f"{measured['model_bytes'] / 1e6:.1f} MB",
        f"{measured['engine_bytes'] / 1e6:.1f} MB",
    ]
    assert re.findall(r"^\| [^|]+ \| (\d\S* \S+) \|$", page.partition("## Node hours")[0], re.MULTILINE) == shown


def test_the_figures_of_large_decoders_are_the_committed_ones() -> None:
    """Each cell of its table, with the digits that it shows."""
    measured = json.loads((DOCS.parent / "benchmarks" / "scale" / "result.json").read_text())
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", (DOCS / "scale.md").read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == ["export", "fuse", "verify"]
    for name, cells in rows:
        assert cells.split(" | ") == [figures(size.get(name)) for size in measured.values()]
    sizes = [f"{size['disk_bytes'] / 1e9:.1f} GB" for size in measured.values()]
    assert f"| disk | {' | '.join(sizes)} |" in (DOCS / "scale.md").read_text()


def figures(command: dict[str, Any] | None) -> str:
    if command is None:
        return "not measured"
    return f"{command['cpu_seconds']:.0f} s ({command['seconds']:.0f} s), {command['peak_bytes'] / 2**30:.1f} GiB"
