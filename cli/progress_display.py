"""How far a function is: a bar on a terminal; in a pipe lines with what is done, and with an estimate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Lines", "bar", "lines"]

_OFTEN = 1.0
"""Seconds that pass at least between the lines of two steps."""
_SILENT = 8.0
"""Seconds after which a line says that the step goes on."""


@contextmanager
def bar(console: Console, first: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar with the time that has passed and an estimate of the time that is left."""
    text = TextColumn("{task.description}", markup=False)
    columns = SpinnerColumn(), text, BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(first, total=None)
        yield lambda done, total, what: shown.update(task, completed=done, total=total, description=what)


@contextmanager
def lines(console: Console, first: str) -> Iterator[Callable[[int, int, str], None]]:
    """A line for each step that is another than the last, one a second at most, and one for every 8 s of a step."""
    printed = Lines(lambda line: console.print(line, markup=False, soft_wrap=True), first)
    ended = Event()

    def watch() -> None:
        while not ended.wait(1.0):
            printed.still()

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield printed.step
    finally:
        ended.set()
        thread.join()


class Lines:
    """Says which steps begin, and which take long."""

    def __init__(self, say: Callable[[str], None], first: str, *, clock: Callable[[], float] = monotonic) -> None:
        """Nothing is said yet.

        Args:
            say: is called with each line.
            first: what is done before the first step.
            clock: in seconds.
        """
        self._say, self._what, self._clock = say, first, clock
        self._begun = self._said = clock()
        self._done, self._total = 0, 0
        self._told = ""
        self._lock = Lock()

    def step(self, done: int, total: int, what: str) -> None:
        """A step begins: the steps done, the steps in all, and what it is."""
        with self._lock:
            self._done, self._total, self._what = done, total, what
            if what != self._told and (not self._told or self._clock() - self._said >= _OFTEN):
                self._tell(what)

    def still(self) -> None:
        """Time has passed."""
        with self._lock:
            if self._clock() - self._said >= _SILENT:
                self._tell(f"still {self._what}" if self._told == self._what else self._what)

    def _tell(self, text: str) -> None:
        self._told, self._said = self._what, self._clock()
        self._say(f"{text} ({', '.join(self._numbers())})")

    def _numbers(self) -> Iterator[str]:
        passed = self._clock() - self._begun
        if self._total:
            yield f"{100 * self._done // self._total} %"
        yield f"{passed:.0f} s"
        if self._done:
            yield f"about {passed / self._done * (self._total - self._done):.0f} s left"
