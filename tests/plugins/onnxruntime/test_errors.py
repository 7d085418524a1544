"""Wrong nodes and wrong inputs come back as one clear text that names the node."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import AttributeProto, helper

from rms_deploy.errors import RunError
from rms_deploy.ops.functions import attach_functions
from rms_deploy.ops.reference import rms_norm
from rms_deploy.runtime import onnxruntime_session as runtime

from .one_node import node_model, run_node, samples, weights

X = samples((2, 3, 8), "float32")
SCALE = weights((8,), "float32")
FULL = weights((2, 3, 8), "float32")

ATTRIBUTES = {
    "epsilon is -1; use a finite number, at least 0": {"epsilon": -1.0},
    "rms_epsilon is inf; use a finite number, at least 0": {"rms_epsilon": float("inf")},
    "rms_min is nan; use a finite number, at least 0": {"rms_min": float("nan")},
    "epsilon has the wrong attribute type; use a float": {"epsilon": 1},
    "rms_min has the wrong attribute type; use a float": {"rms_min": "0"},
    "scale_type is 2; use 1 (float32), or 10 (float16) or 16 (bfloat16) if X holds such values": {"scale_type": 2},
    "scale_type has the wrong attribute type; use an int": {"scale_type": 1.0},
    "axes has the wrong attribute type; use a list of ints": {"axes": -1},
    "axes is [0,2]; use one contiguous block of distinct axes": {"axes": [0, 2]},
    "axes is [2,-1]; use one contiguous block of distinct axes": {"axes": [2, -1]},
    "axes has 3; X has rank 3, use -3 to 2": {"axes": [3]},
    "axes has -4; X has rank 3, use -3 to 2": {"axes": [-4]},
    "axes has 33 values; use 1 to 32": {"axes": list(range(33))},
}


@pytest.mark.parametrize("text", ATTRIBUTES)
def test_a_wrong_attribute(text):
    with pytest.raises(RunError) as error:
        run_node("RMSNorm", {"X": X, "scale": SCALE}, **ATTRIBUTES[text])
    assert str(error.value).endswith(f"RMSNorm node 'norm': {text}")
    assert "\n" not in str(error.value)


def test_an_op_of_a_later_version_runs_by_its_body_or_is_refused():
    """So a new way to round is a new op: an attribute that a library does not know, it does not even ask for."""
    model = ir.from_proto(node_model("RMSNorm", {"X": X, "scale": SCALE}))
    attach_functions(model)
    later = ir.to_proto(model)
    later.graph.node[0].op_type = later.functions[0].name = "RMSNormLater"
    (y,) = runtime.run(runtime.session(later), {"X": X, "scale": SCALE}).values()
    np.testing.assert_allclose(y, rms_norm(X, SCALE), rtol=1e-6)
    del later.functions[:]
    with pytest.raises(RunError, match="op rms_deploy::RMSNormLater is unknown to onnxruntime") as error:
        runtime.session(later)
    assert "\n" not in str(error.value)


def test_an_empty_list_of_axes():
    model = node_model("RMSNorm", {"X": X, "scale": SCALE})
    model.graph.node[0].attribute.append(helper.make_attribute("axes", [], attr_type=AttributeProto.INTS))
    with pytest.raises(RunError, match="RMSNorm node 'norm': axes has 0 values; use 1 to 32"):
        runtime.session(model)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_scale_type_that_is_not_the_type_of_x(dtype):
    number, other = (10, 16) if dtype == "float16" else (16, 10)
    text = rf"scale_type is {other}; use 1 \(float32\) or {number} \({dtype}, the type of X\)"
    with pytest.raises(RunError, match=text):
        run_node("RMSNorm", {"X": samples((2, 8), dtype), "scale": SCALE}, scale_type=other)


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({}, "partial_size is missing; PartialRMSNorm requires it"),
        ({"partial_size": 0}, "partial_size is 0; use at least 1"),
        ({"partial_size": 9}, "partial_size is 9; use 1 to 8, the number of normalised elements"),
    ],
)
def test_a_wrong_partial_size(attributes, text):
    with pytest.raises(RunError, match=f"PartialRMSNorm node 'norm': {text}"):
        run_node("PartialRMSNorm", {"X": X, "scale": SCALE}, **attributes)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(
    ("scale", "axes", "text"),
    [
        (weights((7,), "float32"), [-1], "scale has 7 elements; use 1 or 8"),
        (weights((0,), "float32"), [-1], "scale has 0 elements; use 1 or 8"),
        (weights((3, 7), "float32"), [-1], "scale has 7 elements along the axes; use 1 or 8"),
        (SCALE, [1, 2], "scale has 8 elements; use 1 or 24"),
        (
            weights((3,), "float32"),
            [1],
            "scale has shape [3]; use one that broadcasts from the right to X [2,3,8]",
        ),
        (SCALE, [1], "scale has shape [8]; use one that is 1 behind the axes of X [2,3,8]"),
        (
            weights((2, 8), "float32"),
            [-1],
            "scale has shape [2,8]; use one that broadcasts from the right to X [2,3,8]",
        ),
        (
            weights((1, 1, 1, 8), "float32"),
            [2],
            "scale has rank 4; use at most that of X, 3",
        ),
        (weights((1, 1, 1, 1), "float32"), [2], "scale has rank 4; use at most that of X, 3"),
    ],
)
def test_a_wrong_scale(scale, axes, text, constant):
    with pytest.raises(RunError) as error:
        run_node("RMSNorm", {"X": X, "scale": scale}, axes=axes, initializers=["scale"] if constant else [])
    assert str(error.value) == f"RMSNorm node 'norm': {text}"


def test_a_scale_that_skips_an_axis():
    scale = weights((2, 1, 2, 8), "float32")
    with pytest.raises(RunError) as error:
        run_node("RMSNorm", {"X": samples((2, 3, 2, 8), "float32"), "scale": scale})
    text = "scale has shape [2,1,2,8]; use one that has no 1 between the axes that it varies along, beside X [2,3,2,8]"
    assert str(error.value) == f"RMSNorm node 'norm': {text}"


def test_a_residual_of_another_shape():
    with pytest.raises(RunError, match=r"AddRMSNorm node 'norm': R has shape \[1,3,8\]; use that of X, \[2,3,8\]"):
        run_node("AddRMSNorm", {"X": X, "R": X[:1], "scale": SCALE})


def test_a_scalar_x():
    with pytest.raises(RunError, match="RMSNorm node 'norm': X has rank 0; use 1 to 32"):
        run_node("RMSNorm", {"X": np.ones((), np.float32), "scale": SCALE})


@pytest.mark.parametrize(("x", "scale"), [("float32", "float16"), ("float16", "bfloat16")])
def test_types_that_the_contract_has_not(x, scale):
    with pytest.raises(RunError, match="RMSNorm does not take these types; X is float32, float16 or bfloat16"):
        runtime.session(node_model("RMSNorm", {"X": samples((2, 8), x), "scale": weights((8,), scale)}))


def test_the_next_run_after_an_error_works():
    session = runtime.session(node_model("RMSNorm", {"X": X, "scale": SCALE}, dynamic=True))
    with pytest.raises(RunError, match="scale has 7 elements"):
        runtime.run(session, {"X": X, "scale": SCALE[:7]})
    assert runtime.run(session, {"X": X, "scale": SCALE})["Y"].shape == X.shape


def test_attributes_of_other_runtimes_are_accepted():
    run_node("RMSNorm", {"X": X, "scale": SCALE}, plugin_version="1", plugin_namespace="rms_deploy")
