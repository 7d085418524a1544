"""The table of benchmarks/cuda: predictions with empty cells, and what a run fills in."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[4] / "benchmarks" / "cuda"


@pytest.fixture(scope="module")
def table():
    spec = importlib.util.spec_from_file_location("cuda_benchmark_table", FOLDER / "table.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_committed_table_is_of_what_was_measured(table):
    text, measured = (FOLDER / "README.md").read_text(), FOLDER / "result.json"
    results = json.loads(measured.read_text())["results"] if measured.exists() else []
    assert "\n".join(table.rows_of(table.Measured(**result) for result in results)) in text
    assert ("**Not run yet**" in text) == (not results)


def test_a_run_fills_the_cells_and_says_who_wins(table, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- table: begin -->\nold\n<!-- table: end -->\nafter\n")
    times = {"copy": 90.0, "ours": 100.0, "ours, split": 80.0, "torch": 120.0, "liger": 95.0}
    results = [table.Measured((4096, 4096), True, name, time, 90.0) for name, time in times.items()]
    results += [table.Measured((1, 4096), True, name, time, 1.0) for name, time in (("ours", 2.0), ("torch", 2.01))]
    results += [table.Measured((4096, 4096), False, name, 1.0, 1.0) for name in times]
    results += [
        table.Measured((2, 8, 49), True, name, time, 1.0) for name, time in (("ours", 2.0), ("ours, early", 1.6))
    ]
    table.fill(readme, results, "2026-12-01, a GPU")
    lines = readme.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "2026-12-01, a GPU" in lines
    assert "| 4096 x 4096 | 93 to 97 % | 100.00 us, 90 % | | liger 95.00 us, 95 % | liger, 1.05x |" in lines
    assert "| 1 x 4096 | 2.3 to 2.5 us | 2.00 us, 50 % | | torch 2.01 us, 50 % | even |" in lines
    assert "| 4096 x 128 | 75 to 85 % | | | | |" in lines
    assert "| 2 x 8 x 49 | | 2.00 us, 50 % | 1.60 us, 62 % | | |" in lines
