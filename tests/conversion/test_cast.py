"""`cast`: norms fused, the rest in half precision, what leaves the range kept, and the result compared."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from rms_deploy import cast, session, verify
from rms_deploy.errors import InputError, OutputError, RunError
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.file import load_model
from rms_deploy.ops.contract import ELEMENT_TYPES, OPS
from rms_deploy.ops.functions import attach_functions
from rms_deploy.ops.nodes import norm_nodes
from rms_deploy.runtime.onnxruntime_session import run

from ..fusion.passes.one_norm import one_norm

LARGE = 1000.0


def decoder(residual=LARGE, opset=18):
    """Two layers x + MatMul(RMSNorm(x)) of a residual whose square is beyond float16, and a table of weights."""
    rng = np.random.default_rng(0)
    weights = {"table": (residual * rng.standard_normal((20, 16))).astype(np.float32)}
    body = "x0 = Gather(table, ids)"
    for i in range(2):
        weights[f"w{i}"] = rng.standard_normal((16, 16)).astype(np.float32)
        weights[f"s{i}"] = (1 + 0.1 * rng.standard_normal(16)).astype(np.float32)
        body += f""" q{i} = Pow(x{i}, two) m{i} = ReduceMean<keepdims = 1>(q{i}, axes) e{i} = Add(m{i}, eps)
            r{i} = Sqrt(e{i}) n{i} = Div(x{i}, r{i}) y{i} = Mul(n{i}, s{i}) l{i} = MatMul(y{i}, w{i})
            x{i + 1} = Add(x{i}, l{i})"""
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]> g (int64[b,s] ids) => (float[b,s,16] out)
        <float two = {{2}}, float eps = {{1e-6}}, int64[1] axes = {{-1}}> {{ {body} out = Identity(x2) }}"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


def small(body="y = Mul(x, w)", constants="float[2] w = {1.0001, 2}", inputs="float[b,2] x", opset=18):
    text = (
        f"""<ir_version: 8, opset_import: ["" : {opset}]> g ({inputs}) => (float[b,2] y) <{constants}> {{ {body} }}"""
    )
    return onnx.parser.parse_model(text)


def of(model):
    return Counter(node.op_type for node in model.graph)


@pytest.fixture(scope="module")
def result():
    return cast(decoder())


def test_norms_keep_float32_statistics_inside_one_op(result):
    assert of(result.model) == {"Gather": 1, "RMSNorm": 1, "AddRMSNorm": 1, "MatMul": 2, "Add": 1, "Identity": 1}
    assert {value.dtype for node in result.model.graph for value in node.outputs} == {ir.DataType.FLOAT16}
    assert len(result.norms) == 2
    assert result.kept == ()
    assert result.cast_count == 7
    assert ("rms_deploy", "RMSNorm", "") in result.model.functions


@pytest.mark.parametrize("library", [True, False])
def test_it_runs_with_the_library_and_without(result, library):
    """4 eps sqrt(n): as the tolerance of `verify`; unfused, the squares would be infinite."""
    feeds = {"ids": np.arange(20).reshape(2, 10)}
    expected = run(session(decoder(), optimize=False), feeds)["out"].astype(np.float64)
    actual = run(session(result.model, library=library), feeds)["out"].astype(np.float64)
    assert np.linalg.norm(actual - expected) <= result.verification.tolerance * np.linalg.norm(expected)


def test_it_is_compared_with_the_original(result):
    found = result.verification
    assert found.passed
    assert found.is_complete
    assert found.formula_difference < 1e-12  # float64, with the same weights
    assert 1e-5 < found.worst.difference.relative_l2 < found.tolerance < 0.05
    assert found.tolerance_origin.startswith("4 eps(float16) sqrt(")


def test_bfloat16():
    result = cast(decoder(), to="bfloat16")
    assert result.verification.passed
    assert result.verification.candidate_run.startswith("upcast to float32")
    assert {value.dtype for node in result.model.graph for value in node.outputs} == {ir.DataType.BFLOAT16}


@pytest.mark.parametrize(
    ("target", "op_type"),
    [
        ("standard", "RMSNormalization"),
        ("onnxruntime", "SkipSimplifiedLayerNormalization"),
        ("decomposed", "ReduceMean"),
        ("tensorrt-plugin", "RMSNorm"),
    ],
)
def test_targets(target, op_type):
    result = cast(decoder(), target=target)
    assert op_type in of(result.model)
    assert result.verification.passed
    facts = Facts(result.model)
    statistics = [facts.dtype(node.outputs[0]) for node in result.model.graph if node.op_type == "ReduceMean"]
    assert set(statistics) <= {ir.DataType.FLOAT}


def test_what_leaves_the_range_stays_in_float32():
    result = cast(small("a = Mul(x, big) b = Mul(a, less) y = Neg(b)", "float big = {1e6}, float less = {1e-6}"))
    assert [kept.node for kept in result.kept] == ["Mul", "Mul_2"]
    assert result.kept[0].reason == "big has at most 1e+06, over 1.64e+04"
    assert result.verification.passed
    assert of(result.model) == {"Cast": 2, "Mul": 2, "Neg": 1}


def test_keep_by_node_and_by_operator():
    model = small("a = Mul(x, w) b = Mul(a, w) c = Exp(b) y = Neg(c)")
    result = cast(model, keep=["Mul_2", "Exp"], inputs={"x": np.ones((1, 2), np.float32)})
    assert [(kept.node, kept.reason) for kept in result.kept] == [("Mul_2", "asked for"), ("Exp", "asked for")]
    with pytest.raises(InputError, match="`keep`: the fused model has no node and no operator 'Softmax'"):
        cast(model, keep=["Softmax"])


def test_a_node_with_a_body_cannot_be_kept():
    body = """y = If(c) <then_branch = t () => (float[b,2] o) { o = Neg(x) },
                         else_branch = e () => (float[b,2] o) { o = Abs(x) }>"""
    model = small(body, "float unused = {1}", "float[b,2] x, bool c")
    assert cast(model).verification.passed
    with pytest.raises(InputError, match=r"node If \(If\) cannot stay in float32 as a whole \(asked for\)"):
        cast(model, keep=["If"])


def test_positions_beyond_2048_keep_their_angle():
    """In float16 5001 is 5000, and 4999 too; the sine of what is in float32 is right to half a unit of float16.

    onnx's evaluator rounds where the model says it, which optimised kernels do not.
    """
    body = "p = Cast<to = 1>(positions) s = Sin(p) y = Mul(x, s)"
    model = small(body, "float unused = {1}", "float[b,2] x, int64[b,2] positions")
    feeds = {"x": np.ones((1, 2), np.float32), "positions": np.array([[5001, 4999]])}
    result = cast(model, inputs=feeds)
    evaluator = ReferenceEvaluator(ir.to_proto(result.model))
    (actual,) = evaluator.run(None, {**feeds, "x": feeds["x"].astype(np.float16)})
    assert actual.dtype == np.float16
    assert np.abs(actual - np.sin(feeds["positions"])).max() <= 2**-12


def test_keep_io(result):
    kept = cast(decoder(), keep_io=True)
    assert kept.model.graph.outputs[0].dtype == ir.DataType.FLOAT
    assert result.model.graph.outputs[0].dtype == ir.DataType.FLOAT16


def test_it_can_be_cast_again_where_its_ends_are_float32(tmp_path):
    cast(small(), tmp_path / "once.onnx", keep_io=True)
    assert cast(tmp_path / "once.onnx").verification.passed


def test_it_is_written_with_its_weights_beside_it(tmp_path):
    onnx.save(decoder(), tmp_path / "in.onnx", save_as_external_data=True, location="in.data", size_threshold=0)
    before = (tmp_path / "in.data").read_bytes()
    result = cast(tmp_path / "in.onnx", tmp_path / "out.onnx", save_as_external=True)
    assert result.written
    assert (tmp_path / "in.data").read_bytes() == before
    assert (tmp_path / "out.onnx.data").stat().st_size < 0.6 * len(before)
    assert load_model(tmp_path / "out.onnx").graph.initializers["w0"].const_value.dtype == ir.DataType.FLOAT16
    assert verify(tmp_path / "in.onnx", tmp_path / "out.onnx", cast=True, timeout=300).passed


def test_the_file_that_was_read_may_be_the_output(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(small(), path)
    assert cast(path, path).written
    assert load_model(path).graph.inputs[0].dtype == ir.DataType.FLOAT16


def test_what_is_not_equal_is_not_written(tmp_path):
    """1.0001 is 1 in float16, and x - x is not 0.0001 x."""
    model = small("a = Mul(x, w) y = Sub(a, x)", "float w = {1.0001}")
    result = cast(model, tmp_path / "out.onnx")
    assert not result.verification.passed
    assert result.verification.formula_difference < 1e-12
    assert not result.written
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (small(), {"to": "float8"}, InputError, "`to` is 'float8'; use float16 or bfloat16"),
        (small(), {"target": "fast"}, InputError, "fast"),
        (small("y = Neg(x)", opset=8), {}, InputError, "float16 needs opset >= 9, the model has 8; raise it with onnx"),
        (small("y = Neg(x)", opset=12), {"to": "bfloat16"}, InputError, "bfloat16 needs opset >= 13, the model has 12"),
        (small(), {"shapes": {"z": (1, 2)}}, InputError, "the model has no input 'z'"),
        (small("y = Mul(x, v)", "float[3] v = {1, 2, 3}", "float[b,n] x"), {}, RunError, "do not run"),
    ],
)
def test_what_is_wrong_is_said(model, options, error, message):
    with pytest.raises(error, match=message):
        cast(model, **options)


def test_nothing_in_float32():
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float16[2] x) => (float16[2] y) { y = Neg(x) }'
    )
    with pytest.raises(InputError, match="the model has nothing in float32 to cast"):
        cast(model)


def test_an_output_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        cast(small(), tmp_path / "no" / "out.onnx")


def test_for_json(result):
    data = result.to_dict()
    assert data["to"] == "float16"
    assert (data["norm_count"], data["cast_count"], data["kept_count"]) == (2, 7, 0)
    assert data["verification"]["passed"]


NORMS = [op for op in OPS.values() if op.is_shifted or op.is_quantized or op.prologue == "AddFloat32"]


@pytest.mark.parametrize("to", ["float16", "bfloat16"])
@pytest.mark.parametrize("op", NORMS, ids=lambda op: op.name)
def test_what_stands_around_a_norm_is_cast_with_it(op, to):
    """Shift and scale, residual and sum, each with the other; what is quantised is what it was."""
    model = one_norm(op.name)
    attach_functions(model)
    result = cast(ir.to_proto(model), to=to)
    assert result.verification.passed
    assert result.verification.is_complete
    assert not result.kept
    (node,) = norm_nodes(result.model)
    types = dict.fromkeys("TSU", ELEMENT_TYPES[to]) | {"Q": 3}
    for values, ends in ((node.inputs, op.inputs), (node.outputs, op.outputs)):
        assert [value.dtype for value in values] == [types[variable] for _, variable in ends]
    if op.is_quantized:
        assert node.attributes["y_scale"].value == pytest.approx(0.02)


def test_a_float32_residual_beside_a_half_type_stays():
    """A cast that rounds its residual would be another norm. The weights are the bits of 1 and 2."""
    text = """<ir_version: 9, opset_import: ["" : 20, "rms_deploy" : 1]>
    g (float16[b,2] x, float[b,2] r) => (float[b,2] y, float[b,2] s) <float16[2] w = {15360, 16384}> {
        e = Exp (r) n, s = rms_deploy.AddFloat32RMSNorm (x, e, w) f = Cast <to = 1> (n) y = Mul (f, f) }"""
    result = cast(onnx.parser.parse_model(text), verify=False)
    assert [kept.reason for kept in result.kept] == ["its inputs have several float types"]
    (node,) = norm_nodes(result.model)
    assert [value.dtype for value in node.inputs] == [ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.FLOAT16]
    onnx.checker.check_model(ir.to_proto(result.model), full_check=True)
