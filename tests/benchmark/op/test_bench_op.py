"""The op benchmark: every peer that is installed computes the same norm, and what cannot run says why."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from rms_deploy.benchmark.op.bench_op import SHAPES, _shape, bench_op
from rms_deploy.benchmark.op.other_kernels import PEERS, OpCase, copy, tensor_bytes
from rms_deploy.benchmark.op.result import OpTiming, best
from rms_deploy.errors import InputError, RmsDeployError

CASE = OpCase("norm", "float32", (4, 64), -1, 1)


def test_each_peer_runs_or_says_why_not():
    result = bench_op(shapes=["4x64", "2x8x3@1"], dtypes=["float16"], ops=["add-norm"], rounds=2, seconds=0.01)
    (_, rows), (_, channels) = result.cases()
    timings = {timing.peer: timing for timing in rows}
    assert timings["ours"].failure is None
    assert timings["ort SkipSimplifiedLayerNormalization"].failure is None
    assert timings["ours, partial 25 %"].failure == "a partial norm has no residual"
    assert {t.peer: t for t in channels}["ort LayerNormalization"].failure.endswith("over the last axes only")
    for timing in result.timings:
        assert (timing.failure is None) == (timing.copies is not None and timing.copies > 0)
    assert {"timings", "provenance"} <= result.to_dict().keys()


@pytest.mark.parametrize("peer", ["ours", "ours, partial 50 %", "ours, partial 25 %", "ort decomposed"])
def test_a_peer_is_ready_to_run(peer):
    PEERS[peer](CASE)()


def test_a_peer_that_does_not_take_the_case():
    with pytest.raises(RmsDeployError, match="rounding orders are one"):
        PEERS["ours, round first"](CASE)


def test_the_copy_moves_what_the_op_must():
    assert tensor_bytes(CASE) == 2 * 4 * 64 * 4
    assert tensor_bytes(OpCase("add-norm", "bfloat16", (4, 64), -1, 1)) == 4 * 4 * 64 * 2
    copy(CASE)()


def test_a_timing_is_the_median_of_its_rounds():
    timing = OpTiming.of(CASE, "ours", [(4.0, 2.0), (6.0, 2.0), (9.0, 1.0)], None, 6000)
    assert (timing.microseconds, timing.copies, timing.gigabytes_per_second) == (6.0, 3.0, 1.0)
    assert OpTiming.of(CASE, "x", [], "not installed", 1).failure == "not installed"


def test_the_best_peer_is_another_runtime_and_the_same_norm():
    times = {"ours": 1.0, "ort LayerNormalization": 2.0, "torch eager": 4.0, "ort decomposed": 5.0}
    timings = [OpTiming.of(CASE, peer, [(us, 1.0)], None, 1) for peer, us in times.items()]
    assert best(timings).peer == "torch eager"
    assert best(timings, prefix="ort").peer == "ort decomposed"
    assert best(timings[:2]) is None


def test_shapes():
    assert _shape("1x256x56x56@1") == ((1, 256, 56, 56), 1)
    assert all(_shape(text) for text in SHAPES)
    for text in ("", "4x", "0x4", "4x4@2", "4x4@a"):
        with pytest.raises(InputError, match="use sizes as in 16x4096"):
            _shape(text)


@pytest.mark.parametrize("wrong", [{"peers": ["nobody"]}, {"ops": ["sum"]}, {"dtypes": ["int8"]}, {"rounds": 0}])
def test_wrong_options(wrong):
    with pytest.raises(InputError):
        bench_op(shapes=["4x64"], **wrong)


def test_inputs_start_with_a_page():
    from rms_deploy.benchmark.op.other_kernels import _inputs

    assert all(array.ctypes.data % 4096 == 0 for array in _inputs(CASE).values())
    assert np.isfinite(_inputs(CASE)["X"]).all()


def test_a_run_writes_where_it_is_told():
    """The outputs stand in the same kind of memory as the target of the copy: huge pages from 4 MiB on."""
    from rms_deploy.benchmark.op.other_kernels import _inputs, _onnx, _scale
    from rms_deploy.runtime import onnxruntime_session as runtime

    node = helper.make_node("Mul", ["X", "scale"], ["Y"])
    session = runtime.session(_onnx(CASE, [node], _scale(CASE, spread=True), outputs=["Y"], opset=17))
    outputs = {"Y": np.zeros(CASE.shape, np.float32)}
    runtime.bound_run(session, _inputs(CASE), outputs)()
    assert np.array_equal(outputs["Y"], _inputs(CASE)["X"] * _scale(CASE, spread=True))


def test_openvino_takes_the_norms_of_two_types():
    pytest.importorskip("openvino", reason="openvino is not installed")
    for dtype in ("float32", "float16"):
        PEERS["openvino"](OpCase("add-norm", dtype, (4, 64), -1, 1))()
    with pytest.raises(RmsDeployError, match="no bfloat16"):
        PEERS["openvino"](OpCase("norm", "bfloat16", (4, 64), -1, 1))
