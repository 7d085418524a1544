"""A process answers, or it is an error of one line how it ended."""

from __future__ import annotations

import sys

import pytest

from rms_deploy.benchmark.worker.process import BenchmarkProcess
from rms_deploy.errors import RunError


@pytest.fixture(name="process")
def _process(monkeypatch):
    """A process that runs this code when it is first asked."""
    started = []

    def start(code, timeout=None):
        command = [sys.executable, "-S", "-c", f"import os, signal, sys, time; line = sys.stdin.readline(); {code}"]
        monkeypatch.setattr(BenchmarkProcess, "command", staticmethod(lambda _: command))
        started.append(BenchmarkProcess(timeout))
        return started[-1]

    yield start
    for each in started:
        each.close()
        each.close()


def test_an_answer(process):
    assert process("print(line)").ask("run", seconds=1) == {"do": "run", "seconds": 1}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("""print('{"error": "no such op"}')""", "no such op"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "its process was killed by SIGSEGV"),
        ("sys.exit('lost a pointer')", "its process ended with exit code 1: lost a pointer"),
        ("print('{', end='')", "its process ended with exit code 0"),
    ],
)
def test_anything_else_is_an_error(process, code, message):
    with pytest.raises(RunError) as raised:
        process(code).ask("run")
    assert str(raised.value) == message


def test_no_answer_in_time(process):
    with pytest.raises(
        RunError, match=r"^it gave no answer within 0.1 s, and was ended; a longer `timeout` waits longer$"
    ):
        process("time.sleep(10000)", timeout=0.1).ask("load")


def test_the_seconds_of_a_request_are_added_to_the_timeout(process):
    assert process("time.sleep(0.5); print('{}')", timeout=0.1).ask("run", seconds=60) == {}
