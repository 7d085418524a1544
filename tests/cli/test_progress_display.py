"""Lines of progress: one for each step, never many at once, and never silent for long. The clock is the test's."""

from __future__ import annotations

import io

from rich.console import Console

from rms_deploy.cli.progress_display import Lines, bar, lines


class Clock:
    def __init__(self):
        self.now, self.said = 0.0, []
        self.lines = Lines(self.said.append, "reading", clock=lambda: self.now)

    def step(self, seconds, *arguments):
        self.now += seconds
        self.lines.step(*arguments)

    def wait(self, seconds):
        for _ in range(seconds):
            self.now += 1
            self.lines.still()


def test_a_line_for_each_step_with_an_estimate():
    clock = Clock()
    clock.step(2, 0, 4, "round 1")
    clock.step(2, 1, 4, "round 1")
    clock.step(2, 2, 4, "round 2")
    assert clock.said == ["round 1 (0 %, 2 s)", "round 2 (50 %, 6 s, about 6 s left)"]


def test_quick_steps_share_a_line():
    clock = Clock()
    for index in range(100):
        clock.step(0.1, index, 100, f"round {index}")
    assert 9 <= len(clock.said) <= 10


def test_a_long_step_is_never_silent_for_ten_seconds():
    clock = Clock()
    clock.wait(9)
    clock.step(0, 0, 2, "loading")
    clock.wait(25)
    assert clock.said[:3] == ["reading (8 s)", "loading (0 %, 9 s)", "still loading (0 %, 17 s)"]
    assert len(clock.said) == 5


def test_a_step_that_was_too_quick_for_a_line_is_told_when_it_takes_long():
    clock = Clock()
    clock.step(0, 0, 2, "a")
    clock.step(0.5, 1, 2, "b")
    clock.wait(8)
    assert clock.said == ["a (0 %, 0 s)", "b (50 %, 8 s, about 8 s left)"]


def test_lines_go_to_the_console_and_the_watch_ends():
    console = Console(file=io.StringIO())
    with lines(console, "reading") as on_progress:
        on_progress(0, 1, "[a]")
    assert console.file.getvalue() == "[a] (0 %, 0 s)\n"


def test_a_bar_says_what_comes_next():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with bar(console, "reading") as on_progress:
        on_progress(1, 2, "round [2]")
    assert "round [2]" in console.file.getvalue()
