"""How far a benchmark is."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["OnProgress", "Progress"]

OnProgress = Callable[[int, int, str], None]
"""Is called with the steps done, the steps in all, as far as they are known, and what comes next."""


class Progress:
    """Counts the steps of points, which are measured one after the other. All have as many as the latest, it says."""

    def __init__(self, points: int, report: OnProgress | None) -> None:
        """Of a benchmark with so many points, before the first."""
        self._points, self._report = points, report
        self._begun = self._done = self._total = 0

    def begin(self) -> None:
        """A point begins."""
        self._begun = self._done
        self._points -= 1

    def expect(self, steps: int) -> None:
        """The point takes so many steps from its begin to its end."""
        self._total = self._begun + steps * (self._points + 1)

    def next(self, what: str) -> None:
        """A step begins."""
        if self._report is not None:
            self._report(self._done, self._total, what)
        self._done += 1
