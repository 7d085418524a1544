"""The schemas: onnx's checker and strict shape inference know the ops without a function body."""

from __future__ import annotations

import subprocess
import sys

import onnx
import pytest

from rms_deploy.ops import schemas
from rms_deploy.ops.contract import DOMAIN, OPS, VERSION


@pytest.fixture(autouse=True)
def registered() -> None:
    schemas.register()
    schemas.register()  # a second time changes nothing


def infer(text: str) -> dict[str, list[str | int]]:
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    return {
        info.name: [dim.dim_param or dim.dim_value for dim in info.type.tensor_type.shape.dim]
        for info in inferred.graph.value_info
    }


def test_schema_of_each_op() -> None:
    for op in OPS.values():
        schema = onnx.defs.get_schema(op.name, VERSION, DOMAIN)
        assert [(i.name, i.type_str) for i in schema.inputs] == list(op.inputs)
        assert [(o.name, o.type_str) for o in schema.outputs] == list(op.outputs)
        required = {name for name, attribute in schema.attributes.items() if attribute.required}
        assert required == {a.name for a in op.attributes if a.default is None}
        assert set(schema.attributes) == {a.name for a in op.attributes}


def test_shapes_pass_through() -> None:
    shapes = infer("""<ir_version: 9, opset_import: ["": 18, "rms_deploy": 1]>
        g (float16[B,4,8] x, float16[B,4,8] r, float[8] w) => (float16[B,4,8] y) {
            s, t = rms_deploy.AddRMSNorm <epsilon = 1e-5> (x, r, w)
            n = rms_deploy.PartialRMSNorm <partial_size = 2> (t, w)
            u = Add (s, n)
            y = Relu (u)
        }""")
    assert shapes == {name: ["B", 4, 8] for name in "stnu"}


def test_unknown_type_is_refused() -> None:
    with pytest.raises(onnx.shape_inference.InferenceError, match="int32"):
        infer("""<ir_version: 9, opset_import: ["": 18, "rms_deploy": 1]>
            g (int32[4,8] x, float[8] w) => (int32[4,8] y) { y = rms_deploy.RMSNorm (x, w) }""")


def test_missing_attribute_is_refused() -> None:
    with pytest.raises(onnx.checker.ValidationError, match="partial_size"):
        infer("""<ir_version: 9, opset_import: ["": 18, "rms_deploy": 1]>
            g (float[4,8] x, float[8] w) => (float[4,8] y) { y = rms_deploy.PartialRMSNorm (x, w) }""")


def test_the_interpreter_ends_well() -> None:
    """onnx before 1.23 crashed at exit while a schema held a Python function."""
    subprocess.run([sys.executable, "-c", "from rms_deploy.ops import schemas; schemas.register()"], check=True)


def types(text: str) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text), check_type=True, strict_mode=True)
    values = [*inferred.graph.value_info, *(v for f in inferred.functions for v in f.value_info)]
    return {info.name: info.type.tensor_type.elem_type for info in values}


def test_a_sum_has_the_type_of_its_residual_and_a_quantised_y_its_own() -> None:
    found = types("""<ir_version: 9, opset_import: ["": 20, "rms_deploy": 1]>
        g (float16[B,8] x, float[B,8] r, float16[8] w) => (float[B,8] y) {
            a, b = rms_deploy.AddFloat32RMSNorm (x, r, w)
            c, d = rms_deploy.AddRMSNormQuantize <y_scale = 0.5, output_dtype = 17> (a, b, w)
            e = rms_deploy.RMSNormQuantize <y_scale = 0.5, output_dtype = 3> (a, w)
            f = rms_deploy.RMSNormShift (a, w, w)
            y = Identity (d)
        }""")
    float32, float16, int8, float8 = (
        getattr(onnx.TensorProto, t) for t in ("FLOAT", "FLOAT16", "INT8", "FLOAT8E4M3FN")
    )
    assert found == {"a": float16, "b": float32, "c": float8, "d": float32, "e": int8, "f": float16}


def test_the_type_of_a_quantised_y_may_be_an_attribute_of_a_function() -> None:
    found = types("""<ir_version: 9, opset_import: ["": 20, "rms_deploy": 1, "local": 1]>
        g (float16[B,8] x, float16[8] w) => (float[B,8] y) { q = local.f <to = 3> (x, w) y = Cast <to = 1> (q) }
        <opset_import: ["": 20, "rms_deploy": 1], domain: "local"> f <to> (x, w) => (y) {
            y = rms_deploy.RMSNormQuantize <y_scale = 0.5, output_dtype: int = @to> (x, w)
        }""")
    assert found["q"] == onnx.TensorProto.INT8
