# ruff: noqa: E501 - a graph a line
"""Each target is valid, computes the same, and comes back."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from rms_deploy.errors import InputError
from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.unfuse import unfuse
from rms_deploy.ops import schemas
from rms_deploy.ops.contract import OPS
from rms_deploy.ops.forms import NormForm
from rms_deploy.ops.reference import outputs_of

from .spellings import NORM, ONLY_OURS, assert_near


def ops(model):
    return [node.op_type for node in model.graph]


def test_standard(spelled, spelling, run, feeds_of):
    result = fuse(spelled, target="standard").model
    proto = ir.to_proto(result)
    schemas.register()
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    assert {o.domain: o.version for o in proto.opset_import}[""] == 23
    assert ("RMSNormalization" in ops(result)) == (spelling not in ONLY_OURS)
    assert any(node.domain == "rms_deploy" for node in proto.graph.node) == (spelling in ONLY_OURS)
    assert_near(run(proto, feeds_of(spelled)), run(spelled, feeds_of(spelled)))
    again = fuse(result, target="standard")
    assert not again.norms
    assert ir.to_proto(again.model).SerializeToString(deterministic=True) == proto.SerializeToString(deterministic=True)


def test_no_functions(spelled):
    result = fuse(spelled, functions=False)
    assert not result.model.functions
    assert any(node.domain == "rms_deploy" for node in result.model.graph)
    assert not fuse(fuse(spelled).model, functions=False).model.functions


def test_an_old_opset_is_converted_with_its_weights(build, run, feeds_of):
    core = NORM.replace("m = ReduceMean (q, last)", "m = ReduceMean <axes = [-1]> (q)")
    model = build(
        f"h = Exp (x) {core} k = MatMul (n, w) y = ReduceMax <axes = [-1]> (k)", outputs="float[b,s,1] y", opset=13
    )
    weight = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)  # larger than what is converted
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    proto = ir.to_proto(fuse(model, target="standard").model)
    onnx.checker.check_model(proto, full_check=True)
    assert [v.name for v in proto.graph.input] == ["x"]
    assert_near(run(proto, feeds_of(model)), run(model, feeds_of(model)))


def test_an_unknown_target(build):
    with pytest.raises(InputError, match="target 'tvm' is not known; use fused, standard"):
        fuse(build("y = Exp (x)"), target="tvm")


def test_a_model_without_norms_stays_what_it_was(build):
    model = build("y = Exp (x)")
    for target in NormForm:
        assert (
            ir.to_proto(fuse(model, target=target).model).SerializeToString()
            == ir.to_proto(ir.from_proto(model)).SerializeToString()
        )


@pytest.mark.parametrize("target", NormForm)
def test_a_model_without_operators_of_onnx(target):
    text = '<ir_version: 8, opset_import: ["rms_deploy" : 1]> g (float[n,8] X, float[8] scale) => (float[n,8] Y) { Y = rms_deploy.RMSNorm (X, scale) }'
    lowered = fuse(onnx.parser.parse_model(text), target=target).model
    assert unfuse(lowered).model.opset_imports[""] >= 18


@pytest.mark.parametrize("op", ["AddRMSNorm", "AddRMSNormQuantize"])
def test_a_residual_of_another_type_that_nobody_declares(op, feeds_of):
    """The body casts X to the type of R."""
    given = "<y_scale = 0.02, output_dtype = 3>" if "Quantize" in op else ""
    text = f"""<ir_version: 9, opset_import: ["" : 20, "rms_deploy" : 1]>
    g (float16[b,8] x, float[b,8] z, float16[8] w) => ({"int8" if given else "float16"}[b,8] y, float[b,8] s)
    {{ r = Neg (z) y, s = rms_deploy.{op} {given} (x, r, w) }}"""
    proto = ir.to_proto(fuse(onnx.parser.parse_model(text)).model)
    onnx.checker.check_model(proto, full_check=True)
    feeds = feeds_of(proto)
    inputs = {"X": feeds["x"], "R": -feeds["z"], "scale": feeds["w"]}
    attributes = {"y_scale": 0.02, "output_dtype": 3} if given else {}
    expected = outputs_of(OPS[op], inputs, **attributes)
    for actual, exact in zip(ReferenceEvaluator(proto).run(None, feeds), expected, strict=True):
        assert actual.dtype == exact.dtype
        assert np.mean(actual != exact) < 0.05  # a rounding that float32 statistics tip


def test_a_sum_in_a_function_keeps_its_body():
    """A file says no types of the inputs of functions: X has none there, and R has one."""
    model = onnx.parser.parse_model("""<ir_version: 9, opset_import: ["": 20, "l": 1]>
    g (float[2,8] x, float16[2,8] z, float[8] w) => (float[2,8] y) { y = l.F (x, z, w) }
    <opset_import: ["": 20], domain: "l"> F (x, z, w) => (y) {
      r = Cast <to = 1> (z)
      h = Add (x, r)
      two = Constant <value_float = 2.0> () q = Pow (h, two)
      last = Constant <value_ints = [-1]> () m = ReduceMean (q, last)
      eps = Constant <value_float = 1e-5> () e = Add (m, eps)
      s = Sqrt (e) n = Div (h, s) y = Mul (n, w)
    }""")
    fused = ir.to_proto(fuse(model).model)
    assert {function.name for function in fused.functions} == {"F", "AddRMSNorm"}
    again = fuse(fused)
    assert not again.repairs
    assert ir.to_proto(again.model).SerializeToString(deterministic=True) == fused.SerializeToString(deterministic=True)
