"""Every model of a case computes what its op does."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from rms_deploy.benchmark.op.cases import OP_KINDS, OpCase, case_inputs, case_scale, case_shift
from rms_deploy.benchmark.op.onnx_models import EPSILON, case_model, decomposed_model, neighbours, our_model
from rms_deploy.ops.element_types import element_dtype
from rms_deploy.ops.reference import outputs_of
from rms_deploy.runtime import onnxruntime_session as runtime

CASES = [OpCase(op, dtype, (4, 64), -1, 1) for op in OP_KINDS for dtype in ("float32", "float16")]


def foreign_model(case):
    def norm(x, y):
        return [helper.make_node("SimplifiedLayerNormalization", [x, "scale"], [y], axis=-1, epsilon=EPSILON)]

    scale = case_scale(case, spread=False).astype(element_dtype(case.normalized_dtype))
    return case_model(case, neighbours(case, norm), scale, opset=17)


@pytest.mark.parametrize("make", [our_model, decomposed_model, foreign_model])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.op}-{case.dtype}")
def test_a_model_computes_the_op(case, make):
    """In float16 each step of another's model is rounded; its Sigmoid is right to 1e-7 only."""
    inputs = case_inputs(case)
    factors = {"scale": case_scale(case, spread=False), "shift": case_shift(case, spread=False)}
    op = OP_KINDS[case.op]
    given = {name: (inputs | factors)[name] for name, _ in op.inputs}
    expected = outputs_of(op, given, epsilon=float(np.float32(EPSILON)))
    out = runtime.run(runtime.session(make(case), optimize=False), inputs)
    assert tuple(out) == case.outputs
    error = 1e-5 if case.dtype == "float32" else 1e-2
    for actual, wanted in zip(out.values(), expected, strict=True):
        np.testing.assert_allclose(actual.astype(np.float64), wanted.astype(np.float64), rtol=error, atol=error / 10)


def test_a_partial_norm():
    case = OpCase("norm", "float32", (4, 64), -1, 1)
    (node,) = our_model(case, partial_size=16).graph.node
    assert node.op_type == "PartialRMSNorm"
    assert {a.name: a.i for a in node.attribute}["partial_size"] == 16
