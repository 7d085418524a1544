"""A short run of each kind, always of the same seeds, and those seeds that failed once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

pytestmark = pytest.mark.skipif(
    tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 24),
    reason="the norms of ONNX Runtime before 1.24 refuse scalar scales and axes of one element",
)

HERE = Path(__file__).parent
FAILED_ONCE = [
    line.split("#")[0].split() for line in (HERE / "seeds.txt").read_text().splitlines() if line[:1].isalpha()
]


def run(folder: Path, *words: str) -> None:
    """Fails with the kinds of failure, an example of each."""
    report = folder / "report.json"
    command = [sys.executable, str(HERE / "run.py"), "--report", str(report), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    kinds = json.loads(report.read_text())["kinds"]
    failures = {
        f"{kind}: {name}": failure for kind, part in kinds.items() for name, failure in part["failures"].items()
    }
    assert not failures, json.dumps(failures, indent=1)


@pytest.mark.parametrize(("kind", "count"), [("valid", 250), ("bytes", 600), ("structure", 300)])
def test_a_short_run(kind: str, count: int, tmp_path: Path) -> None:
    run(tmp_path, "--kind", kind, "--count", str(count))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("valid", 1500), ("bytes", 5000), ("structure", 2000)])
def test_a_longer_run(kind: str, count: int, tmp_path: Path) -> None:
    run(tmp_path, "--kind", kind, "--count", str(count), "--seed", "1000000")


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in FAILED_ONCE}))
def test_seeds_that_failed_once(kind: str, tmp_path: Path) -> None:
    run(
        tmp_path,
        "--kind",
        kind,
        *(word for of_kind, seed in FAILED_ONCE if of_kind == kind for word in ("--only", seed)),
    )
