"""ONNX's own node tests of RMSNormalization, and their spelled-out twins, each rewritten to our op."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.runtime import onnxruntime_session as runtime


def _cases():
    with warnings.catch_warnings():  # the collection computes every case of every operator
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases, rmsnormalization  # noqa: F401 - registers its cases

        return {case.name: case for case in collect_testcases("RMSNormalization")}


CASES = _cases()


def test_all_of_them_are_there():
    assert len(CASES) >= 38


@pytest.mark.parametrize("library", [True, False], ids=["kernel", "function"])
@pytest.mark.parametrize("name", CASES)
def test_case(name, library, run):
    case = CASES[name]
    result = fuse(case.model)
    assert [node.op_type for node in result.model.graph] == ["RMSNorm"]
    fused = ir.to_proto(result.model)
    onnx.checker.check_model(fused, full_check=True)
    for inputs, expected in case.data_sets:
        feeds = dict(zip((value.name for value in case.model.graph.input), inputs, strict=True))
        if library:
            (actual,) = runtime.run(runtime.session(fused), feeds).values()
        else:
            (actual,) = run(fused, feeds)
        np.testing.assert_allclose(actual, expected[0], rtol=case.rtol, atol=case.atol)
