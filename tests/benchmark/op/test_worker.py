"""The worker's protocol, spoken to it as the op benchmark does."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

from rms_deploy.benchmark.op.cases import OpCase

CASE = asdict(OpCase("norm", "float32", (4, 64), -1, 1))


def talk(*requests):
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    command = [sys.executable, "-c", "from rms_deploy.benchmark.op.worker import main; main()"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_kernel_is_timed_beside_the_copy_and_a_refusal_ends_nothing():
    answers = talk(
        {"do": "start"},
        {"do": "load", "kernel": "ours, round first", "case": CASE},
        {"do": "load", "kernel": "ort decomposed", "case": CASE},
        {"do": "run", "seconds": 0.01},
    )
    assert answers[:3] == [{}, {"error": "in float32 the rounding orders are one"}, {}]
    assert answers[3].keys() == {"copy", "microseconds"}
    assert all(microseconds > 0 for times in answers[3].values() for microseconds in times)
