"""Each kernel is ready to run, or says why it does not take the case."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from rms_deploy.benchmark.op.cases import OP_KINDS, OpCase, case_inputs, case_scale
from rms_deploy.benchmark.op.onnx_models import case_model
from rms_deploy.benchmark.op.other_kernels import KERNELS, copy
from rms_deploy.errors import InputError
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


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("op", OP_KINDS)
def test_each_op(op, dtype):
    case = OpCase(op, dtype, (4, 64), -1, 1)
    kernels = ("ours", "ort decomposed", "ort SimplifiedLayerNormalization", "ort LayerNormalization", "torch eager")
    for kernel in kernels:
        KERNELS[kernel](case)()
    if op != "norm":
        with pytest.raises(InputError, match="no residual, no gate and no shift"):
            KERNELS["ours, partial 50 %"](case)


def test_the_copy_runs():
    copy(CASE)()


def test_a_run_writes_where_it_is_told():
    """The outputs stand in the same kind of memory as the target of the copy: huge pages from 4 MiB on."""
    node = helper.make_node("Mul", ["X", "scale"], ["Y"])
    session = runtime.session(case_model(CASE, [node], case_scale(CASE, spread=True), opset=17))
    outputs = {"Y": np.zeros(CASE.shape, np.float32)}
    runtime.bound_run(session, case_inputs(CASE), outputs)()
    assert np.array_equal(outputs["Y"], case_inputs(CASE)["X"] * case_scale(CASE, spread=True))


def test_openvino_takes_the_norms_of_two_types():
    pytest.importorskip("openvino", reason="openvino is not installed")
    for dtype in ("float32", "float16"):
        KERNELS["openvino"](OpCase("add-norm", dtype, (4, 64), -1, 1))()
    with pytest.raises(InputError, match="no bfloat16"):
        KERNELS["openvino"](OpCase("norm", "bfloat16", (4, 64), -1, 1))
