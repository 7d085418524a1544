"""Each kernel is ready to run, or says why it does not take the case."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from rms_deploy.benchmark.op.cases import OpCase, case_inputs, case_scale
from rms_deploy.benchmark.op.other_kernels import KERNELS, _decomposed, _onnx, copy
from rms_deploy.errors import InputError
from rms_deploy.ops.reference import gated_rms_norm
from rms_deploy.runtime import onnxruntime_session as runtime

CASE = OpCase("norm", "float32", (4, 64), -1, 1)


@pytest.mark.parametrize("kernel", ["ours", "ours, partial 50 %", "ours, partial 25 %", "ort decomposed"])
def test_a_kernel_is_ready_to_run(kernel):
    KERNELS[kernel](CASE)()


def test_a_kernel_that_does_not_take_the_case():
    with pytest.raises(InputError, match="rounding orders are one"):
        KERNELS["ours, round first"](CASE)
    with pytest.raises(InputError, match="SimplifiedLayerNormalization normalises over the last axes only"):
        KERNELS["ort SimplifiedLayerNormalization"](OpCase("norm", "float32", (4, 64), 0, 1))


@pytest.mark.parametrize("op", ["norm-gate", "gate-norm"])
def test_a_gate(op):
    case = OpCase(op, "float32", (4, 64), -1, 1)
    for kernel in ("ours", "ort decomposed", "ort SimplifiedLayerNormalization", "torch eager"):
        KERNELS[kernel](case)()
    with pytest.raises(InputError, match="no residual and no gate"):
        KERNELS["ours, partial 50 %"](case)
    inputs = case_inputs(case)
    (y,) = runtime.run(runtime.session(_decomposed(case)), inputs).values()
    expected = gated_rms_norm(*inputs.values(), case_scale(case, spread=False), before=op == "gate-norm")
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)  # ONNX Runtime's Sigmoid is right to 1e-7


def test_the_copy_runs():
    copy(CASE)()


def test_a_run_writes_where_it_is_told():
    """The outputs stand in the same kind of memory as the target of the copy: huge pages from 4 MiB on."""
    node = helper.make_node("Mul", ["X", "scale"], ["Y"])
    session = runtime.session(_onnx(CASE, [node], case_scale(CASE, spread=True), outputs=["Y"], opset=17))
    outputs = {"Y": np.zeros(CASE.shape, np.float32)}
    runtime.bound_run(session, case_inputs(CASE), outputs)()
    assert np.array_equal(outputs["Y"], case_inputs(CASE)["X"] * case_scale(CASE, spread=True))


def test_openvino_takes_the_norms_of_two_types():
    pytest.importorskip("openvino", reason="openvino is not installed")
    for dtype in ("float32", "float16"):
        KERNELS["openvino"](OpCase("add-norm", dtype, (4, 64), -1, 1))()
    with pytest.raises(InputError, match="no bfloat16"):
        KERNELS["openvino"](OpCase("norm", "bfloat16", (4, 64), -1, 1))
