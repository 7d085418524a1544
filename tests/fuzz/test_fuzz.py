"""A short run of each kind, always of the same seeds, and those seeds that failed once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import onnxruntime
import pytest

IS_OLD = tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 24)
"""Its norms refuse scalar scales and axes of one element, so that valid graphs, and some damaged ones, do not run."""

HERE = Path(__file__).parent
FAILED_ONCE = [
    line.split("#")[0].split() for line in (HERE / "seeds.txt").read_text().splitlines() if line[:1].isalpha()
]


def run(folder: Path, *words: str) -> Counter[str]:
    """What came of it; fails with the kinds of failure, an example of each."""
    report = folder / "report.json"
    command = [sys.executable, str(HERE / "run.py"), "--report", str(report), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    kinds = json.loads(report.read_text())["kinds"]
    failures = {
        f"{kind}: {name}": failure for kind, part in kinds.items() for name, failure in part["failures"].items()
    }
    assert not failures, json.dumps(failures, indent=1)
    return sum((Counter(part["outcomes"]) for part in kinds.values()), Counter())


def check(kind: str, count: int, folder: Path, *words: str) -> None:
    if IS_OLD and kind != "bytes":
        pytest.skip("the norms of ONNX Runtime before 1.24 refuse scalar scales and axes of one element")
    outcomes = run(folder, "--kind", kind, "--count", str(count), *words)
    assert outcomes.total() == count
    assert kind != "valid" or outcomes["fused: equal"] > count // 4, "most graphs have a norm that can be run"


@pytest.mark.parametrize(("kind", "count"), [("valid", 120), ("bytes", 300), ("structure", 25)])
def test_a_short_run(kind: str, count: int, tmp_path: Path) -> None:
    check(kind, count, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("valid", 1500), ("bytes", 5000), ("structure", 2000)])
def test_a_longer_run(kind: str, count: int, tmp_path: Path) -> None:
    check(kind, count, tmp_path, "--seed", "1000000")


@pytest.mark.skipif(IS_OLD, reason="the seeds were found with a newer ONNX Runtime")
@pytest.mark.parametrize("kind", sorted({kind for kind, _ in FAILED_ONCE}))
def test_seeds_that_failed_once(kind: str, tmp_path: Path) -> None:
    words = [word for of_kind, seed in FAILED_ONCE if of_kind == kind for word in ("--only", seed)]
    assert run(tmp_path, "--kind", kind, *words).total() == len(words) // 2
