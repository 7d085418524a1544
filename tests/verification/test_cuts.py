"""A value of a model, given by it or to it."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.runtime import onnxruntime_session as runtime
from rms_deploy.verification.cuts import exposed, given

X = {"x": np.array([1.0, 2.0], np.float32)}


def model() -> ir.Model:
    text = (
        '<ir_version: 8, opset_import: ["" : 18]> g (float[2] x) => (float[2] y) { a = Neg(x) b = Abs(a) y = Neg(b) }'
    )
    return ir.from_proto(onnx.parser.parse_model(text))


def test_inner_values_are_outputs_and_the_model_stays_what_it_was():
    whole = model()
    results = runtime.run(runtime.session(exposed(whole, ["b", "a"]), library=False), X)
    assert {name: array.tolist() for name, array in results.items()} == {"y": [-1, -2], "b": [1, 2], "a": [-1, -2]}
    assert [value.name for value in whole.graph.outputs] == ["y"]


@pytest.mark.parametrize("names", [["a", "b"], ["b", "a"]])
def test_what_lies_behind_a_cut_reads_what_is_given(names):
    numbers = {"a": np.array([-5, -6], np.float32), "b": np.array([7, 8], np.float32)}
    session = runtime.session(exposed(model(), names, cut=True), library=False)
    results = runtime.run(session, {**X, **given([numbers[name] for name in names])})
    assert {name: array.tolist() for name, array in results.items()} == {"a": [-1, -2], "b": [5, 6], "y": [-7, -8]}
