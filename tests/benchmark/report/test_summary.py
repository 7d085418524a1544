"""Sentences that claim no more than the intervals do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rms_deploy.benchmark.device_times import DeviceTimes
from rms_deploy.benchmark.latency import Speedup
from rms_deploy.benchmark.report.summary import summary
from rms_deploy.benchmark.result import CandidateResult

from ..made_result import result


@pytest.mark.parametrize(
    ("speedup", "sentence"),
    [
        (Speedup(1.1, 1.0021, 1.2), "b is 1.10 times as fast as a (95 % interval 1.0021 ... 1.20)."),
        (Speedup(0.8, 0.7, 0.9), "b is 0.80 times as fast as a (95 % interval 0.70 ... 0.90)."),
        (
            Speedup(1.1, 0.99, 1.2),
            "The difference between b and a is within the noise (95 % interval 0.99 ... 1.20).",
        ),
        (
            Speedup(1.1, 1.05, 1.2, noise=1.15),
            "The difference between b and a is within the noise (95 % interval 1.05 ... 1.20; A/A: up to 1.15).",
        ),
        (Speedup(2.0, None, None), "b ran 2.00 times as fast as a, in too few launches to tell that from noise."),
        (None, "b has nothing to be compared with, as a failed."),
    ],
)
def test_no_winner_is_named_where_there_is_none(speedup, sentence):
    made = result(sweep=False)
    a, b = made.candidates[0], made.candidates[1]
    a = replace(a, name="a", operator_times=None) if speedup else CandidateResult("a", failure="gone")
    point = replace(made.points[0], candidates=(a, replace(b, name="b", speedup=speedup, operator_times=None)))
    assert list(summary(replace(made, points=(point,)))) == [sentence]


def test_of_a_sweep_the_first_and_the_last_step_are_told():
    assert [sentence.split(",")[0] for sentence in summary(result())] == ["At seq 1"] * 3 + ["At seq 128"] * 3


def test_an_engine_tells_host_and_gpu_apart():
    made = result(sweep=False)
    first = replace(made.candidates[0], name="e", device_times=DeviceTimes(15.0, 812.0, 40.0, 30.0))
    made = replace(made, points=(replace(made.points[0], candidates=(first,)),))
    line = (
        "e: the GPU computes for 812.0 us, the host enqueues for 15.0 us; copies of inputs 40.0 us, of outputs 30.0 us."
    )
    assert line in list(summary(made))
