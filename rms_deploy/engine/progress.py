"""A long call into TensorRT: what it is doing, and how it is stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

__all__ = ["BuildProgress", "OnProgress", "interruptible"]

OnProgress = Callable[[float, str], None]
"""Is called with the part of the build that is done, 0 to 1, and the name of the phase that runs."""

_Result = TypeVar("_Result")


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


@dataclass
class BuildProgress:
    """Follows the nested phases of a build, which TensorRT reports from any of its threads."""

    report: OnProgress | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    failure: BaseException | None = None
    """What `report` raised. It must not pass through TensorRT, so it stops the build and is raised afterwards."""
    _phases: dict[str, _Phase] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _fraction: float = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins."""
        with self._lock:
            self._phases[name] = _Phase(parent, max(steps, 1))
        self._tell(name)

    def step(self, name: str, step: int) -> bool:
        """A step of a phase is done; whether to go on."""
        with self._lock:
            if name in self._phases:
                self._phases[name].done = step + 1
        self._tell(name)
        return not self.cancelled.is_set()

    def finish(self, name: str) -> None:
        """A phase ends."""
        with self._lock:
            self._phases.pop(name, None)

    def monitor(self, trt: Any) -> Any:
        """This as an IProgressMonitor of the module `trt`."""
        progress = self

        class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # of a module that has no types
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                progress.start(phase_name, parent_phase, num_steps)

            def step_complete(self, phase_name: str, step: int) -> bool:
                return progress.step(phase_name, step)

            def phase_finish(self, phase_name: str) -> None:
                progress.finish(phase_name)

        return Monitor()

    def _tell(self, name: str) -> None:
        if self.report is None or self.cancelled.is_set():
            return
        with self._lock:
            fraction, shown = self._position(name)
            self._fraction = max(self._fraction, fraction)  # a phase may be repeated; the bar does not go back
        try:
            self.report(self._fraction, shown)
        except BaseException as error:  # all of them, see `failure`
            self.failure = error
            self.cancelled.set()

    def _position(self, name: str) -> tuple[float, str]:
        """The part of the build that is done, by phase `name` and those around it; and the name of the phase to show.

        Shown is the phase around `name` that lies directly in the outermost one.
        """
        fraction, shown, current = 0.0, name, self._phases.get(name)
        while current is not None:
            fraction = min(1.0, (current.done + fraction) / current.steps)
            parent = self._phases.get(current.parent or "")
            if parent is not None and parent.parent is not None:
                shown = current.parent or shown
            current = parent
        return fraction, shown


def interruptible(call: Callable[[], _Result], progress: BuildProgress) -> _Result:
    """Make a long call in another thread, so that Ctrl-C reaches this one while it runs.

    After Ctrl-C, `progress` asks the call to stop, and the call is waited for, because TensorRT does not survive a
    thread that is abandoned.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    with ThreadPoolExecutor(1) as executor:
        # SIGINT is held back while the thread starts: an interrupt then would leave it running and nobody waiting.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            try:
                future = executor.submit(call)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return future.result()
        except KeyboardInterrupt:
            progress.cancelled.set()
            raise
