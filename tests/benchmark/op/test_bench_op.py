"""The op benchmark: every kernel that is installed computes the same norm, and what cannot run says why."""

from __future__ import annotations

import pytest

from rms_deploy.benchmark.op.bench_op import bench_op
from rms_deploy.errors import InputError


def test_each_kernel_runs_or_says_why_not():
    result = bench_op(shapes=["4x64", "2x8x3@1"], dtypes=["float16"], ops=["add-norm"], rounds=2, duration=0.01)
    (_, rows), (_, channels) = result.cases()
    timings = {timing.kernel: timing for timing in rows}
    assert timings["ours"].failure is None
    assert timings["ort SkipSimplifiedLayerNormalization"].failure is None
    assert timings["ours, partial 25 %"].failure == "a partial norm has no residual, no gate and no shift"
    assert {t.kernel: t for t in channels}["ort LayerNormalization"].failure.endswith("over the last axes only")
    for timing in result.timings:
        assert (timing.failure is None) == (timing.copies is not None and timing.copies > 0)
    assert {"format", "timings", "provenance"} <= result.to_dict().keys()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kernels": ["nobody"]}, "kernel 'nobody' is not known; use 'ours', 'ours, round first'"),
        ({"ops": ["sum"]}, "op 'sum' is not known; use norm, add-norm, norm-gate, gate-norm, norm-shift"),
        ({"dtypes": ["int8"]}, "dtype 'int8' is not supported"),
        ({"rounds": 0}, "use at least 1 of `rounds`"),
        ({"duration": 0}, "a `duration` of more than 0 seconds"),
    ],
)
def test_wrong_options(wrong, message):
    with pytest.raises(InputError, match=message):
        bench_op(shapes=["4x64"], **wrong)
