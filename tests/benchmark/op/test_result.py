"""What is made of the times of a kernel, and which other kernel is the best."""

from __future__ import annotations

from rms_deploy.benchmark.op.cases import OpCase
from rms_deploy.benchmark.op.result import OpTiming, best

CASE = OpCase("norm", "float32", (4, 64), -1, 1)


def test_a_timing_is_the_median_of_its_rounds():
    timing = OpTiming.of(CASE, "ours", [(4.0, 2.0), (6.0, 2.0), (9.0, 1.0)], None, 6000)
    assert (timing.microseconds, timing.copies, timing.gigabytes_per_second) == (6.0, 3.0, 1.0)
    assert OpTiming.of(CASE, "x", [], "not installed", 1).failure == "not installed"


def test_the_best_is_not_ours_and_the_same_norm():
    times = {"ours": 1.0, "ort LayerNormalization": 2.0, "torch eager": 4.0, "ort decomposed": 5.0}
    timings = [OpTiming.of(CASE, kernel, [(us, 1.0)], None, 1) for kernel, us in times.items()]
    assert best(timings).kernel == "torch eager"
    assert best(timings, prefix="ort").kernel == "ort decomposed"
    assert best(timings[:2]) is None
