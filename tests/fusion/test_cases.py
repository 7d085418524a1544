"""Every case of the table: so many norms, a valid graph, the same numbers, and nothing to do the second time."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.ops import schemas
from rms_deploy.ops.contract import OPS
from rms_deploy.runtime import onnxruntime_session as runtime

from .cases import CASES
from .cases.judge import deviation, evaluate, expected, feeds_of, half_types


def parameters():
    for case in CASES:
        marks = [pytest.mark.xfail(reason=case.missing, strict=True)] if case.missing else []
        yield pytest.param(case, id=case.id, marks=marks)


def test_names_are_unique():
    assert len({case.id for case in CASES}) == len(CASES)


def assert_near(actual, truth):
    """The original rounds each of some ten steps to the half type, half an eps each; ours only two."""
    for a, e in zip(actual, truth, strict=True):
        assert (a.dtype, a.shape) == (e.dtype, e.shape)
        wide_a, wide_e = a.astype(np.float64), e.astype(np.float64)
        np.testing.assert_allclose(wide_a, wide_e, rtol=8 * float(ml_dtypes.finfo(a.dtype).eps), atol=1e-4)


@pytest.mark.parametrize("case", list(parameters()))
def test_case(case):
    model = case.model()
    if case.valid:
        onnx.checker.check_model(model, full_check=True)
    result = fuse(model, verify=False, **case.options)  # the matcher alone: what it matches has to be right
    fused = ir.to_proto(result.model)
    if case.runs:  # the numbers first: a wrong one is the worst that can happen
        check_numbers(case, fused, result.norms)
    check_validity(case, model, fused, changed=bool(result.norms))
    check_report(case, result)
    if case.norms == 0:
        assert same(fused, ir.to_proto(ir.from_proto(model)))
    again = fuse(fused, verify=False, **case.options)
    assert not again.norms
    assert same(ir.to_proto(again.model), fused)


PROVEN = [pytest.param(case, id=case.id) for case in CASES if case.norms and not case.missing]


@pytest.mark.slow
@pytest.mark.parametrize("case", PROVEN)
def test_the_built_in_proof_agrees(case):
    counts = case.norms if isinstance(case.norms, tuple) else (case.norms,)
    result = fuse(case.model(), verify=True, **case.options)
    assert len(result.norms) in counts, result.near_misses


def same(one, other):
    return one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)


def check_numbers(case, fused, norms):
    feeds = feeds_of(case)
    truth = expected(case, feeds)
    if case.gains:
        assert_near(evaluate(fused, feeds), truth)
        return
    fault = deviation(evaluate(fused, feeds), truth, cancels=case.cancels)
    assert not fault, (fault, norms)
    if _version(onnxruntime.__version__) < _version(case.onnxruntime or "1.18"):
        return
    # unoptimised: ONNX Runtime fuses on its own, and some decoys wrongly
    if not half_types(fused) or {node.op_type for node in fused.graph.node} <= set(OPS):
        kernel = list(runtime.run(runtime.session(fused, optimize=False), feeds).values())
        fault = deviation(kernel, truth, cancels=case.cancels)
        assert not fault, ("with the library", fault, norms)


def _version(text):
    return tuple(int(part) for part in text.split(".")[:2])


def check_validity(case, model, fused, *, changed):
    schemas.register()
    if case.shapes and (case.valid or changed):
        onnx.checker.check_model(fused, full_check=True)
        onnx.shape_inference.infer_shapes(fused, check_type=True, strict_mode=True, data_prop=True)
    assert [value.name for value in fused.graph.input] == [value.name for value in model.graph.input]
    assert list(fused.graph.output) == list(model.graph.output)


def check_report(case, result):
    if case.norms is not None:
        counts = case.norms if isinstance(case.norms, tuple) else (case.norms,)
        assert len(result.norms) in counts, result.near_misses
    if case.kinds is not None:
        assert tuple(sorted(norm.kind for norm in result.norms)) == case.kinds
    if case.epsilon is not None:
        assert np.float32(result.norms[0].epsilon) == np.float32(case.epsilon)
    if not case.is_like_a_norm:
        assert not result.near_misses
    if case.reason:
        assert result.near_misses, "nothing is said about it"
        assert any(case.reason in f"{miss.piece} {miss.reason}" for miss in result.near_misses), result.near_misses


def test_the_judge_sees_what_is_wrong():
    truth = [np.linspace(1, 2, 100, dtype=np.float32)]
    assert not deviation(truth, truth)
    assert deviation([truth[0] * np.float32(1 + 1e-5)], truth)
    assert deviation([truth[0].reshape(10, 10)], truth)
    assert deviation([truth[0].astype(np.float64)], truth)
    assert deviation([], truth)
    assert deviation([np.where(truth[0] > 1.9, np.nan, truth[0])], truth)
    half = [truth[0].astype(np.float16)]
    assert not deviation([half[0] + np.float16(np.arange(100) == 7) * np.float16(2**-10)], half)
    assert deviation([half[0] + np.float16(np.arange(100) % 4 == 0) * np.float16(2**-10)], half)
    assert not deviation([np.float32([np.nan])], [np.float32([np.nan])])
    assert deviation([np.float32([0])], [np.float32([np.nan])])
