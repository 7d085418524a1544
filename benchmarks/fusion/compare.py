"""Ours and the peers on the table of cases (tests/fusion/cases): who fuses what, and whose numbers are wrong.

    python benchmarks/fusion/compare.py --peers-python ~/peers/bin/python --output benchmarks/fusion/results

`--peers-python` is an interpreter that has the peers: pip install onnxruntime onnxscript onnxsim onnxslim openvino. A
peer that is not there is skipped, and said so. Each runs in a process of its own, which is started anew when it dies.

right   the numbers hold, and each norm is one op (or, where there is none to fuse, the numbers hold)
missed  the numbers hold, and a norm is not one op
wrong   the result runs and gives other numbers, shapes or types
broken  an error, or a result that does not load or run
crash   the process died or did not answer in time

The numbers are held to what tells a wrong formula from another rounding: 1e-4 of the largest element of the output in
float32, 2 % in float16 and 5 % in bfloat16. (The tests hold ours to a few ulp.)
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import selectors
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE.parents[1] / "tests" / "fusion"), str(_HERE)]

from cases import CASES, Case  # noqa: E402 - found through the path above
from cases.judge import expected, feeds_of  # noqa: E402 - found through the path above
from peers import PEERS, read_arrays, write_arrays  # noqa: E402 - found through the path above

VERDICTS = ("right", "missed", "wrong", "broken", "crash")
_TOLERANCE = {"float32": 1e-4, "float64": 1e-4, "float16": 2e-2, "bfloat16": 5e-2}
_SECONDS = 60
_NOTES = (
    "The row `(left as it is)` fuses nothing: what it has right are graphs whose norms are one op already, or where "
    "none is right too; what is broken there, no runtime loads as it is. ONNX Runtime fuses for its own session, the "
    "others write ONNX, OpenVINO compiles. OpenVINO leaves out the roundings to half types that a model makes on the "
    "way, which counts as wrong where the output is float32."
)


@dataclass
class Worker:
    """A fuser's process; started when it is first needed, and again after it died."""

    python: str
    name: str
    folder: Path
    version: str = ""
    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def start(self) -> bool:
        command = [self.python, str(_HERE / "peers.py"), self.name, str(self.folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        answer = self._answer()
        self.version = (answer or {}).get("version", "")
        return answer is not None

    def ask(self, stem: str) -> dict[str, Any] | None:
        """The answer to a case; None if the process died of it."""
        if self.process is None and not self.start():
            return None
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            print(stem, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            self.stop()
            return None
        return self._answer()

    def _answer(self) -> dict[str, Any] | None:
        assert self.process is not None
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            line = self.process.stdout.readline() if selector.select(_SECONDS) else ""
        if not line:
            self.stop()
            return None
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def cases_for_all() -> list[Case]:
    """Those that ask for no option of ours and can be run."""
    return [case for case in CASES if not case.options and case.runs]


def prepare(folder: Path) -> dict[str, tuple[Case, list[Any]]]:
    """Models and inputs as files, and what they must give."""
    prepared = {}
    for number, case in enumerate(cases_for_all()):
        stem = f"{number:04}"
        feeds = feeds_of(case)
        onnx.save(case.model(), folder / f"{stem}.onnx")
        write_arrays(folder / f"{stem}.npz", feeds)
        prepared[stem] = (case, [np.asarray(array) for array in expected(case, feeds)])
    return prepared


def same(actual: list[Any], truth: list[Any]) -> bool:
    """Equal but for rounding; NaN and infinity where the truth has them."""
    if [(a.shape, a.dtype) for a in actual] != [(e.shape, e.dtype) for e in truth]:
        return False
    for a, e in zip(actual, truth, strict=True):
        if a.dtype.kind in "iub":
            if not np.array_equal(a, e):
                return False
            continue
        wide_a, wide_e = a.astype(np.float64), e.astype(np.float64)
        finite = np.isfinite(wide_e)
        largest = np.abs(wide_e[finite]).max(initial=float(ml_dtypes.finfo(np.float32).tiny))
        if not np.allclose(wide_a, wide_e, rtol=0, atol=_TOLERANCE[a.dtype.name] * largest, equal_nan=True):
            return False
    return True


def verdict(case: Case, truth: list[Any], answer: dict[str, Any] | None, outputs: Path) -> str:
    if answer is None:
        return "crash"
    if "error" in answer:
        return "broken"
    if not same(list(read_arrays(outputs).values()), truth):
        return "wrong"
    if case.norms in (None, 0):
        return "right"
    least = min(case.norms) if isinstance(case.norms, tuple) else case.norms
    assert least is not None
    return "right" if answer["fused"] >= least else "missed"


def judge(worker: Worker, prepared: dict[str, tuple[Case, list[Any]]]) -> dict[str, dict[str, Any]]:
    """Case -> verdict and what the peer said."""
    verdicts = {}
    for done, (stem, (case, truth)) in enumerate(prepared.items(), 1):
        outputs = worker.folder / f"{stem}.out.npz"
        outputs.unlink(missing_ok=True)
        answer = worker.ask(stem)
        verdicts[case.id] = {"verdict": verdict(case, truth, answer, outputs), **(answer or {})}
        if done % 20 == 0:
            print(f"\r{worker.name}: {done} of {len(prepared)}", end="", file=sys.stderr)
    worker.stop()
    print(f"\r{worker.name}: {len(prepared)} cases  ", file=sys.stderr)
    return verdicts


def installed(python: str, name: str) -> bool:
    module = {"onnxruntime": "onnxruntime", "rms-deploy": "rms_deploy"}.get(PEERS[name][0], PEERS[name][0])
    found = subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False)
    return found.returncode == 0


def counts(verdicts: dict[str, dict[str, Any]], *, norms: bool) -> Counter[str]:
    """Of the cases with a norm to fuse, or of the others."""
    kinds = {case.id: case.norms not in (None, 0) for case in CASES}
    return Counter(entry["verdict"] for name, entry in verdicts.items() if kinds[name] == norms)


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    peers = report["peers"]
    first = next(iter(peers.values()))["cases"]
    lines = [
        f"{sum(counts(first, norms=True).values())} graphs with RMSNorms, {sum(counts(first, norms=False).values())} "
        "that only look like it or may be left.",
        "",
        "| | version | fused right | missed | wrong | broken | crash | left right | wrong | broken | crash |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, peer in peers.items():
        is_norm, other = (counts(peer["cases"], norms=norms) for norms in (True, False))
        cells = [*(is_norm[kind] for kind in VERDICTS), other["right"], other["wrong"], other["broken"], other["crash"]]
        lines.append(f"| {name} | {peer['version']} | " + " | ".join(map(str, cells)) + " |")
    ours = peers.get("rms-deploy", {"cases": {}})["cases"]
    beaten = [
        f"{case} ({', '.join(name for name in peers if peers[name]['cases'][case]['verdict'] == 'right')})"
        for case, entry in ours.items()
        if entry["verdict"] != "right" and any(p["cases"][case]["verdict"] == "right" for p in peers.values())
    ]
    lines += ["", _NOTES, "", f"Cases that a peer has right and rms-deploy has not: {'; '.join(beaten) or 'none'}."]
    lines += ["", f"{report['date']}, {report['cpu']}, Python {report['python']}: `{report['command']}`", ""]
    return "\n".join(lines)


def cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", default=sys.executable, help="an interpreter that has the peers")
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="only this one; may be given again")
    parser.add_argument("--output", type=Path, help="folder for compare.json and compare.md")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    shown = [Path(arg).name if arg.startswith("/") else arg for arg in sys.argv[1:]]
    report: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu(),
        "python": platform.python_version(),
        "command": shlex.join(["python", "benchmarks/fusion/compare.py", *shown]),
        "peers": {},
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepared = prepare(folder)
        for name in options.peer or PEERS:
            python = sys.executable if name == "rms-deploy" else options.peers_python
            if not installed(python, name):
                print(f"{name}: not installed, skipped", file=sys.stderr)
                continue
            worker = Worker(python, name, folder)
            cases = judge(worker, prepared)
            report["peers"][name] = {"version": worker.version, "cases": cases}
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "compare.json").write_text(json.dumps(report, indent=1) + "\n")
        (options.output / "compare.md").write_text(table(report))
    print(json.dumps(report, indent=1) if options.json else table(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
