"""Trials in processes of their own: a crash, a hang or a gigabyte is an outcome with a seed, and the others go on."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import re
import resource
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

from .trials import Outcome

__all__ = ["outcomes"]

_STAGES: Final = (
    "idle", "generate", "original", "inspect", "unfuse", "fuse", "written", "candidate", "fuse proto", "compare",
    "fuse again", "verify", "doctor", "fuse command",
)  # fmt: skip
_OURS: Final = frozenset({"inspect", "unfuse", "fuse", "fuse proto", "fuse again", "verify", "doctor", "fuse command"})
"""Stages in which the product works; what happens in `original` is the file's or the runtime's own fault."""
_SECONDS: Final = {"original": 5.0, "verify": 60.0, "doctor": 60.0}
_LIMIT: Final = 10.0
_MEMORY: Final = 2**30
_GUARD: Final = 6 * 2**30
"""Bytes of address space beyond what a worker has when it starts: protects the machine, not a limit of a test."""
_RENEWED_AFTER: Final = 5000
"""Trials of one worker: what libraries leak does not add up."""


def outcomes(kind: str, seeds: Iterator[int], *, workers: int, keep: Path | None = None) -> Iterator[Outcome]:
    """Try every seed, in the order in which they end; the files of failures go to `keep`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "rms_deploy.fusion", "onnxruntime"])
    with tempfile.TemporaryDirectory(prefix="rms-deploy-fuzz-") as root:
        running = [_Worker(context, kind, Path(root, str(number)), keep) for number in range(workers)]
        try:
            busy = [worker for worker in running if worker.next(seeds)]
            while busy:
                wait([worker.ours for worker in busy], timeout=0.25)
                for worker in list(busy):
                    outcome = worker.outcome()
                    if outcome is None:
                        continue
                    if not worker.next(seeds):
                        busy.remove(worker)
                    yield outcome
        finally:
            for worker in running:
                worker.end()


@dataclass
class _Worker:
    context: Any
    kind: str
    folder: Path
    keep: Path | None
    seed: int = -1
    process: Any = None
    ours: Any = None
    state: Any = None
    done: int = 0
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.log = self.folder.with_suffix(".log")

    def next(self, seeds: Iterator[int]) -> bool:
        """Begin the next seed; False when there is none."""
        seed = next(seeds, None)
        if seed is None:
            return False
        if self.process is None or self.done >= _RENEWED_AFTER:
            self.end()
            self._begin()
        self.seed = seed
        self.state[:] = [0, time.monotonic()]
        self.ours.send(seed)
        return True

    def _begin(self) -> None:
        self.ours, theirs = self.context.Pipe()
        self.state = self.context.Array("d", 2, lock=False)
        self.done = 0
        arguments = (self.kind, self.folder, self.log, self.keep, theirs, self.state)
        self.process = self.context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()

    def outcome(self) -> Outcome | None:
        """What came of the seed, or None while it runs."""
        if self.ours.poll():
            try:
                outcome: Outcome = self.ours.recv()
            except EOFError:
                return self._died()
            self.done += 1
            return outcome
        stage = _STAGES[int(self.state[0])]
        if time.monotonic() - self.state[1] <= _SECONDS.get(stage, _LIMIT):
            return None
        os.kill(self.process.pid, signal.SIGUSR1)  # it writes where it is
        time.sleep(0.2)
        self.process.kill()
        return self._died(f"hang: more than {_SECONDS.get(stage, _LIMIT):.0f} s")

    def _died(self, why: str = "") -> Outcome:
        self.process.join()
        code = self.process.exitcode
        why = why or (f"crash: {signal.Signals(-code).name}" if code < 0 else f"exit code {code}")
        stage = _STAGES[int(self.state[0])]
        frame = _last_frame(self.log.read_text(errors="replace"))
        _kept(self.folder, self.keep, self.kind, self.seed, only=stage != "original")
        self.end()
        if stage == "original":
            return Outcome(self.seed, f"the runtime ends on the original: {why}")
        return Outcome(self.seed, "failed", f"{why} in {stage}", frame)

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.ours.close()
            self.process = None


def _serve(kind: str, folder: Path, log: Path, keep: Path | None, conn: Connection, state: Any) -> None:
    """The worker: one seed in, one outcome out."""
    from .oracle import CANARY
    from .trials import attempt

    warnings.simplefilter("ignore")
    elsewhere = folder.parent / "cwd"  # what is looked up here, and not beside the model, is found out
    elsewhere.mkdir(exist_ok=True)
    os.chdir(elsewhere)
    (folder.parent / "secret.bin").write_bytes(CANARY)
    file = log.open("w")
    for descriptor in (1, 2):  # the warnings of libraries, which a damaged file causes by the thousand
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    faulthandler.enable(file)
    faulthandler.register(signal.SIGUSR1, file)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _GUARD, used + _GUARD))
    meter = _Meter(state)
    while True:
        seed = conn.recv()
        inner = folder / "model"
        shutil.rmtree(folder, ignore_errors=True)
        inner.mkdir(parents=True)
        meter.most, meter.at = 0, ""
        outcome = attempt(kind, seed, inner, meter.stage)
        meter.stage("idle")
        if meter.most > _MEMORY and not outcome.failed:
            outcome = Outcome(seed, "failed", f"{meter.most / 2**30:.1f} GiB of memory in {meter.at}", "")
        if outcome.failed:
            _kept(folder, keep, kind, seed)
        conn.send(outcome)


class _Meter:
    """Writes where the trial is, and measures the memory of the product's stages."""

    def __init__(self, state: Any) -> None:
        self.state = state
        self.now = "idle"
        self.before = 0
        self.most = 0
        self.at = ""

    def stage(self, name: str) -> None:
        if self.now in _OURS:
            grown = _status("VmHWM") - self.before
            if grown > self.most:
                self.most, self.at = grown, self.now
        if name in _OURS:
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak
            self.before = _status("VmRSS")
        self.now = name
        self.state[:] = [_STAGES.index(name), time.monotonic()]


def _status(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def _last_frame(log: str) -> str:
    """Of a dump, most recent call first: the first place in the product."""
    frames = re.findall(r'File "([^"]+)", line \d+ in (\S+)', log)
    ours = [frame for frame in frames if f"{os.sep}rms_deploy{os.sep}" in frame[0]] or frames
    return f"{'/'.join(Path(ours[0][0]).parts[-2:])}:{ours[0][1]}" if ours else ""


def _kept(folder: Path, keep: Path | None, kind: str, seed: int, *, only: bool = True) -> None:
    if keep is not None and only and (folder / "model").is_dir():
        target = keep / f"{kind}_{seed}"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder / "model", target, symlinks=True)
