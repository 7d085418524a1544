"""What every target promises, on the whole table of cases: it computes the same, and comes back."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.unfuse import unfuse
from rms_deploy.ops import schemas

from .cases import CASES
from .cases.judge import deviation, evaluate, expected, feeds_of, half_types

VERSION = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
FUSED = [
    case
    for case in CASES
    if case.norms and not case.options and tuple(map(int, (case.onnxruntime or "1.18").split("."))) <= VERSION
]
NAMED = [pytest.param(case, id=case.id) for case in FUSED]


def kinds(norms):
    """What two norms that are the same have in common; their constants are float32 in a file."""
    return sorted(
        (n.kind, n.axes, *map(float, np.float32([n.epsilon, n.rms_epsilon, n.rms_min])), n.partial_size or 0, n.dtype)
        for n in norms
    )


def check(case, model):
    feeds = feeds_of(case)
    # The body divides where a model may multiply by an inverse, and sums of norms that follow may cancel: 16 eps of
    # the largest element are far below any wrong constant.
    fault = deviation(evaluate(ir.to_proto(model), feeds), expected(case, feeds), cancels=True, ulps=16)
    assert not fault, fault


@pytest.mark.slow
@pytest.mark.parametrize("case", NAMED)
def test_unfuse_computes_the_same_and_fuse_takes_it_back(case):
    fused = fuse(case.model(), verify=False)
    plain = unfuse(fused.model)
    assert not plain.near_misses or isinstance(case.norms, tuple)  # one op, of which fuse may take less
    assert {node.domain for node in plain.model.graph} & {"rms_deploy", "trt.plugins"} == set()
    if case.runs:
        check(case, plain.model)
    assert kinds(fuse(plain.model, verify=False).norms) == kinds(fused.norms)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["standard", "onnxruntime"])
@pytest.mark.parametrize("case", [case for case in NAMED if case.values[0].runs])
def test_targets_compute_the_same(target, case):
    """ONNX Runtime's ops, and onnx's evaluator, round halves in their own order: those are only held to be valid."""
    model = case.model()
    result = fuse(model, target=target, verify=False)
    proto = ir.to_proto(result.model)
    if target == "standard":
        assert {o.domain: o.version for o in proto.opset_import}[""] >= 23 or not result.norms
        if case.valid and case.shapes:
            schemas.register()
            onnx.checker.check_model(proto, full_check=True)
    if not half_types(model):
        check(case, result.model)
    assert not fuse(result.model, target=target, verify=False).norms


@pytest.mark.parametrize("case", NAMED[::7])
def test_plugins_come_back(case):
    fused = fuse(case.model(), verify=False)
    plugins = fuse(case.model(), target="tensorrt-plugin", verify=False)
    assert not plugins.model.functions or all(key[0] != "rms_deploy" for key in plugins.model.functions)
    assert kinds(fuse(plugins.model, verify=False).fused_before) == kinds(fused.norms)
