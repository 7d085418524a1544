"""Every command that prints a table fits 80 columns, and cuts or folds no word and no number."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import onnx
import onnx.parser
import pytest
from rich.console import Console

from rms_deploy.cli import console, table
from rms_deploy.cli.bench_op import print_op_benchmark
from rms_deploy.cli.benchmark_output import print_benchmark
from rms_deploy.cli.fuse import command as fuse_command
from rms_deploy.cli.norm_table import print_near_misses, print_norms
from rms_deploy.cli.verify import print_verification

from ..made_results import every_result

RESULTS = every_result()
PRINTED = {
    "bench_op.py": [lambda: print_op_benchmark(RESULTS["bench_op"])],
    "benchmark_output.py": [lambda: print_benchmark(RESULTS["bench"])],
    "build.py": [lambda: tables("build"), lambda: tables("build_for_gpus")],
    "cast.py": [lambda: tables("cast")],
    "doctor.py": [lambda: tables("doctor")],
    "engine_table.py": [lambda: tables("inspect_engine")],
    "fuse.py": [lambda: tables("fuse_folder")],
    "norm_table.py": [
        lambda: print_norms(RESULTS["fuse"].norms),
        lambda: print_norms(RESULTS["inspect"].norms, full=True),
        lambda: print_near_misses(RESULTS["fuse"].near_misses),
    ],
    "report.py": [lambda: tables("compare_runs")],
    "verify.py": [lambda: print_verification(RESULTS["verify"])],
}
"""What each module of the command line that prints a table prints."""


def tables(name):
    for each in RESULTS[name].tables():
        table.print_table(each)


def on_screen(monkeypatch, function, width, *, terminal):
    screen = io.StringIO()
    made = Console(file=screen, width=width, color_system=None, highlight=False, force_terminal=terminal)
    for module in (console, table):
        monkeypatch.setattr(module, "stdout", made)
    with click.Context(fuse_command):
        function()
    return screen.getvalue()


def test_every_module_that_prints_a_table_is_tried():
    folder = Path(table.__file__).parent
    found = {path.name for path in folder.glob("*.py") if re.search(r"\bprint_table\(", path.read_text())}
    assert found - {"table.py"} == PRINTED.keys()


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(("module", "number"), [(name, i) for name, each in PRINTED.items() for i in range(len(each))])
def test_it_fits_80_columns_and_nothing_is_cut(monkeypatch, module, number, terminal):
    function = PRINTED[module][number]
    narrow = on_screen(monkeypatch, function, 80, terminal=terminal)
    whole = on_screen(monkeypatch, function, 1000, terminal=terminal)
    lines = narrow.splitlines()
    if not terminal:  # where a sentence is one line, for who reads it by a program
        lines = [line for line in lines if line not in whole.splitlines()]
    assert max(map(len, lines), default=0) <= 80, max(lines, key=len)
    hint = ["no", "room", "for:"]
    assert set(re.split(r"[\s,]+", narrow)) - set(re.split(r"[\s,]+", whole)) <= {*hint}
    numbers = [r"\d[\d.]* (?:us|ms|s|%|MiB)\b", r"[\d.]+ \.\.\. [\d.]+"]
    for pattern in numbers:
        assert set(re.findall(pattern.replace(" ", r"\s+"), narrow)) <= set(re.findall(pattern, whole))


@pytest.mark.parametrize(("columns", "fits"), [("80", True), ("200", False)])
def test_the_width_is_that_of_the_environment(tmp_path, columns, fits):
    path = tmp_path / "model.onnx"
    text = """<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]>
    g (float16[2, 64] x, float16[64] scale) => (float16[2, 64] y)
    { [model_layers_0_post_attention_layernorm] y = rms_deploy.RMSNorm <scale_type = 10> (x, scale) }"""
    onnx.save(onnx.parser.parse_model(text), path)
    done = subprocess.run(
        [sys.executable, "-m", "rms_deploy", "inspect", str(path)],
        env={**os.environ, "COLUMNS": columns},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("no room for: " in done.stdout) == fits
    assert (len(done.stdout.splitlines()[1]) <= 80) == fits
