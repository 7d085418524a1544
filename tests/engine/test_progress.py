"""Nested phases as one number, and how a build is stopped."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from rms_deploy.engine.progress import BuildProgress, interruptible


def test_nested_phases_are_one_number():
    told = []
    progress = BuildProgress(lambda fraction, phase: told.append((round(fraction, 3), phase)))
    progress.start("build", None, 4)
    progress.step("build", 0)
    progress.start("optimise", "build", 2)
    progress.step("optimise", 0)
    progress.start("time", "optimise", 10)
    progress.step("time", 4)
    progress.finish("time")
    progress.finish("optimise")
    progress.step("build", 1)
    assert told == [
        (0.0, "build"),
        (0.25, "build"),
        (0.25, "optimise"),
        (0.375, "optimise"),
        (0.375, "optimise"),  # of the phase below the outermost one, whatever lies in it
        (0.438, "optimise"),
        (0.5, "build"),
    ]


def test_it_does_not_go_back():
    told = []
    progress = BuildProgress(lambda fraction, _phase: told.append(fraction))
    progress.start("build", None, 2)
    progress.step("build", 0)
    progress.start("build", None, 2)
    assert told == [0.0, 0.5, 0.5]


def test_a_failing_report_stops_the_build_and_is_kept():
    def fail(_fraction, _phase):
        raise ValueError("broken")

    progress = BuildProgress(fail)
    progress.start("build", None, 2)
    assert not progress.step("build", 0)
    assert isinstance(progress.failure, ValueError)


def test_without_a_report():
    progress = BuildProgress()
    progress.start("build", None, 0)
    assert progress.step("build", 0)
    progress.cancelled.set()
    assert not progress.step("build", 1)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_waits_for_the_call_to_stop():
    progress, ended = BuildProgress(), []

    def call():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        while progress.step("build", 0):
            time.sleep(0.001)
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        interruptible(call, progress)
    assert ended


def test_results_and_errors_pass_through():
    assert interruptible(lambda: 3, BuildProgress()) == 3
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 / 0, BuildProgress())
