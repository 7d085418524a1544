# ruff: noqa: E501 - a graph a line
"""A norm and the QuantizeLinear behind it become one op that gives the same codes, and stay two where it would not."""

import ml_dtypes
import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.inspect import inspect
from rms_deploy.fusion.passes import fuse_quantize
from rms_deploy.fusion.passes.fuse_quantize import FuseQuantize
from rms_deploy.ops.nodes import norm_nodes
from rms_deploy.runtime import onnxruntime_session as runtime

from ..around_numbers import check_one, failing

CODES = {"float": 1, "float16": 10, "bfloat16": 16}
NUMPY = {"float": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
QUANTIZED = {"int8": 3, "float8e4m3fn": 17}


def model_of(
    *,
    dtype="float",
    target="int8",
    residual=False,
    cast=False,
    opset=21,
    zero_point=0,
    readers=2,
    copies=1,
    more="",
    scale=0.0213,
    **attributes,
):
    """norm -> QuantizeLinear -> one DequantizeLinear for each reader -> MatMul, as quantising tools write it."""
    of_q = "float" if cast else dtype
    name = NUMPY[of_q]
    x_type = CODES[dtype]
    helper = onnx.helper
    nodes = [
        helper.make_node(
            "AddRMSNorm" if residual else "RMSNorm",
            ["x", "r", "w"] if residual else ["x", "w"],
            ["n", "h"] if residual else ["n"],
            domain="rms_deploy",
        )
    ]
    source = "n"
    if cast:
        nodes.append(helper.make_node("Cast", ["n"], ["f"], to=1))
        source = "f"
    ends = []
    for copy in range(copies):
        nodes.append(
            helper.make_node("QuantizeLinear", [source, "s", "z"], [f"c{copy}"], name=f"quantize{copy}", **attributes)
        )
        for number in range(readers):
            end = f"y{copy}{number}"
            nodes.append(helper.make_node("DequantizeLinear", [f"c{copy}", "s", "z"], [f"d{copy}{number}"]))
            nodes.append(helper.make_node("Neg", [f"d{copy}{number}"], [end]))
            ends.append(end)
    if more:
        nodes.append(helper.make_node(more, ["n"], ["more"]))
        ends.append("more")
    inputs = [helper.make_tensor_value_info(n, x_type, ["b", "s", 64]) for n in ("x", *(["r"] if residual else []))]
    outputs = [
        helper.make_tensor_value_info(
            n, 7 if n == "more" and more == "Shape" else CODES[of_q] if n != "more" else x_type, None
        )
        for n in ends
    ]
    outputs += [helper.make_tensor_value_info("h", x_type, ["b", "s", 64])] if residual else []
    weights = np.random.default_rng(1).uniform(-2, 2, 64).astype(NUMPY[dtype])
    initializers = [
        onnx.numpy_helper.from_array(weights, "w"),
        onnx.numpy_helper.from_array(np.asarray(scale).astype(name), "s"),
        helper.make_tensor("z", QUANTIZED.get(target, 2), [], [zero_point]),
    ]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("rms_deploy", 1)], ir_version=10
    )


def feeds_of(dtype="float", *, residual=False):
    generator = np.random.default_rng(0)
    x, r = generator.standard_normal((2, 3, 5, 64)) * 10.0 ** generator.integers(-3, 3, [2, 3, 5, 1])
    return {name: array.astype(NUMPY[dtype]) for name, array in (("x", x), ("r", r))[: 1 + residual]}


def ops(result):
    return [node.op_type for node in result.model.graph]


@pytest.mark.parametrize("target", QUANTIZED)
@pytest.mark.parametrize("residual", [False, True], ids=["norm", "add-norm"])
@pytest.mark.parametrize(
    ("dtype", "cast"), [("float", False), ("float16", False), ("float16", True), ("bfloat16", True)]
)
def test_one_op(dtype, cast, residual, target):
    kind = "AddRMSNormQuantize" if residual else "RMSNormQuantize"
    model = model_of(dtype=dtype, cast=cast, residual=residual, target=target)
    result = fuse(model)
    assert ops(result) == [kind, "DequantizeLinear", "Neg", "DequantizeLinear", "Neg"]
    assert not result.near_misses
    (node,) = norm_nodes(result.model)
    assert node.attributes["output_dtype"].value == QUANTIZED[target]
    precision = node.attributes["precision"].value if "precision" in node.attributes else 1
    assert precision == (1 if cast or dtype == "float" else CODES[dtype])
    feeds = feeds_of(dtype, residual=residual)
    before, after = (
        onnx.reference.ReferenceEvaluator(m).run(None, feeds)
        for m in (fused(model, quantization=False), ir.to_proto(result.model))
    )
    assert [a.tobytes() for a in after] == [b.tobytes() for b in before]


def fused(model, **options):
    return ir.to_proto(fuse(model, **options).model)


@pytest.mark.parametrize("target", QUANTIZED)
@pytest.mark.parametrize("residual", [False, True], ids=["norm", "add-norm"])
def test_onnxruntime_gives_the_same_codes(residual, target):
    """By its own QuantizeLinear, which the body calls, behind our norm."""
    model = model_of(residual=residual, target=target)
    feeds = feeds_of(residual=residual)
    before, after = (runtime.run(runtime.session(m), feeds) for m in (fused(model, quantization=False), fused(model)))
    assert {name: array.tobytes() for name, array in after.items()} == {
        name: array.tobytes() for name, array in before.items()
    }


def test_the_codes_are_those_of_the_contract():
    model = model_of(readers=0)
    model.graph.output.add().CopyFrom(onnx.helper.make_tensor_value_info("c0", 3, ["b", "s", 64]))
    result = fuse(model)
    assert ops(result) == ["RMSNormQuantize"]
    again = fuse(ir.to_proto(result.model))
    assert not again.norms
    assert [norm.kind for norm in again.fused_before] == ["RMSNormQuantize"]


def test_from_primitives(build):
    core = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) k = Mul (n, w)"
    body = f"{core} s = Constant <value_float = 0.02> () z0 = Constant <value_int = 0> () z = Cast <to = 3> (z0) y = QuantizeLinear (k, s, z)"
    model = build(body, inputs="float[b,s,8] x, float[8] w", outputs="int8[b,s,8] y", opset=21)
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32), "w": np.ones(8, np.float32)}
    check_one(model, "RMSNormQuantize", feeds)


def test_several_equal_quantisers_become_one():
    result = fuse(model_of(copies=3, readers=1))
    assert ops(result) == ["RMSNormQuantize", *["DequantizeLinear", "Neg"] * 3]
    assert not result.near_misses


def test_the_shape_of_the_norm_is_that_of_x():
    assert sorted(set(ops(fuse(model_of(more="Shape"))))) == ["DequantizeLinear", "Neg", "RMSNormQuantize", "Shape"]


@pytest.mark.parametrize("reads", ["", "Shape"])
def test_a_copy_whose_numbers_nothing_reads_keeps_no_norm(reads):
    """Of a norm that stayed behind, the sum would have the name of the op's."""
    model = model_of(residual=True)
    model.graph.node.append(onnx.helper.make_node("Identity", ["n"], ["copy"]))
    if reads:
        model.graph.node.append(onnx.helper.make_node(reads, ["copy"], ["dims"]))
        model.graph.output.append(onnx.helper.make_tensor_value_info("dims", 7, [3]))
    result = fuse(model)
    assert set(ops(result)) == {"AddRMSNormQuantize", "DequantizeLinear", "Neg", *([reads] if reads else [])}
    names = [value.name for node in result.model.graph for value in node.outputs]
    assert len(names) == len(set(names))


def test_the_output_of_the_graph_keeps_its_name_beside_other_quantisers():
    model = model_of(copies=2, readers=1)
    model.graph.output.append(onnx.helper.make_tensor_value_info("c1", 3, ["b", "s", 64]))
    result = fuse(model)
    assert ops(result) == ["RMSNormQuantize", *["DequantizeLinear", "Neg"] * 2]
    assert next(norm_nodes(result.model)).outputs[0].name == "c1"


OLD_OPSETS = {
    "a half type": ("com.microsoft", "QuantizeLinear", 17, "opset 17 has no QuantizeLinear of a half type"),
    "float8": ("trt", "TRT_FP8QuantizeLinear", 18, "opset 18 has no QuantizeLinear to float8_e4m3fn"),
    "constants in the body": ("", "QuantizeLinear", 11, "below opset 12 all norms share one body, and with it y_scale"),
}


@pytest.mark.parametrize(("domain", "op_type", "opset", "reason"), OLD_OPSETS.values(), ids=OLD_OPSETS)
def test_an_opset_without_a_body(domain, op_type, opset, reason):
    """Other domains quantise at any opset, and the body of the op has only what ONNX has."""
    model = model_of(dtype="float16" if domain == "com.microsoft" else "float", opset=opset, readers=0)
    model.graph.output.append(onnx.helper.make_tensor_value_info("c0", 17 if domain == "trt" else 3, ["b", "s", 64]))
    quantize = model.graph.node[1]
    quantize.domain, quantize.op_type = domain, op_type
    if domain == "trt":
        del quantize.input[2]
    if domain:
        model.opset_import.add(domain=domain, version=1)
    (node,) = norm_nodes(fuse(model, quantization=False).model)
    result = fuse(model)
    assert ops(result) == [node.op_type, op_type]
    assert [miss.left for miss in result.near_misses] == ["quantization"]
    assert reason in result.near_misses[0].reason


def test_an_attribute_of_the_function_around_it():
    """Each call says whether it saturates."""
    model = ir.from_onnx_text("""<ir_version: 10, opset_import: ["": 21, "l": 1]>
    g (float[2,8] x, float[8] w) => (float8e4m3fn[2,8] y) { y = l.F <saturate = 0> (x, w) }
    <opset_import: ["": 21, "rms_deploy": 1], domain: "l"> F <saturate> (x, w) => (y) {
      n = rms_deploy.RMSNorm (x, w)
      s = Constant <value_float = 0.1> ()
      zero = Constant <value_float = 0.0> ()
      z = Cast <to = 17> (zero)
      y = QuantizeLinear <saturate: int = @saturate> (n, s, z)
    }""")
    result = fuse(model)
    assert [node.op_type for node in norm_nodes(result.model)] == ["RMSNorm"]
    assert "an attribute of it is one of the function around it" in result.near_misses[0].reason


def test_without_quantization():
    assert ops(fuse(model_of(), quantization=False))[:2] == ["RMSNorm", "QuantizeLinear"]


KEPT = {
    "a zero point": ({"zero_point": 3}, "quantize0 stays: its zero point is 3"),
    "another type": ({"target": "uint8"}, "quantize0 stays: it gives uint8, the op int8 or float8e4m3fn"),
    "read by others": ({"more": "Exp"}, "quantize0 stays: the norm is read by others too"),
    "no saturation": ({"target": "float8e4m3fn", "saturate": 0}, "quantize0 stays: it does not saturate"),
    "a negative scale": ({"scale": -0.5}, "quantize0 stays: its scale is -0.5"),
    "a scale for each channel": (
        {"scale": np.full(64, 0.02), "axis": 2},
        "quantize0 stays: its scale is no scalar: it has the shape [64]",
    ),
    "another precision": (
        {"dtype": "float16", "opset": 23, "precision": 16},
        "quantize0 stays: the type in which it divides is neither float32 nor that of the norm",
    ),
}


@pytest.mark.parametrize(("options", "reason"), KEPT.values(), ids=KEPT)
def test_what_stays(options, reason):
    result = fuse(model_of(**options))
    assert "QuantizeLinear" in ops(result)
    assert [(miss.left, miss.reason) for miss in result.near_misses] == [("quantization", reason)]
    assert [miss.left for miss in inspect(ir.to_proto(result.model)).near_misses] == ["quantization"]


def test_quantised_in_two_ways_stays():
    model = model_of(copies=2)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.5), "s2"))
    next(node for node in model.graph.node if node.name == "quantize1").input[1] = "s2"
    assert [miss.reason for miss in fuse(model).near_misses] == [
        "quantize0 stays: the norm is quantised in several ways"
    ]


def test_quantised_in_both_branches_stays(build):
    body = """n = rms_deploy.RMSNorm (x, w) s = Constant <value_float = 0.02> () y = If (c) <
        then_branch = t () => (uint8[b,s,8] y1) { y1 = QuantizeLinear (n, s) },
        else_branch = f () => (uint8[b,s,8] y2) { y2 = QuantizeLinear (n, s) }
    >"""
    model = build(body, inputs="float[b,s,8] x, float[8] w, bool c", outputs="uint8[b,s,8] y")
    model.opset_import.add(domain="rms_deploy", version=1)
    assert [miss.reason for miss in fuse(model).near_misses] == ["y1 stays: it is in another graph"]


def test_an_op_that_has_no_quantised_form():
    model = model_of()
    model.graph.node[0].op_type = "RMSNormReciprocal"
    result = fuse(model)
    assert [miss.reason for miss in result.near_misses] == [
        "quantize0 stays: RMSNormReciprocal has no form that quantises"
    ]


def test_tensorrts_own_operator():
    """As ModelOpt writes it."""
    model = model_of(target="float8e4m3fn", readers=1)
    quantize, dequantize = model.graph.node[1:3]
    for node, name in ((quantize, "TRT_FP8QuantizeLinear"), (dequantize, "TRT_FP8DequantizeLinear")):
        node.domain, node.op_type = "trt", name
        del node.input[2]
    model.opset_import.add(domain="trt", version=1)
    result = fuse(model)
    assert ops(result) == ["RMSNormQuantize", "TRT_FP8DequantizeLinear", "Neg"]
    (node,) = norm_nodes(result.model)
    assert node.outputs[0].dtype == ir.DataType.FLOAT8E4M3FN


def test_a_failed_proof_keeps_the_quantisation_outside(monkeypatch):
    monkeypatch.setattr(fuse_quantize, "keep_proof", failing("a code differs"))
    result = fuse(model_of())
    assert "QuantizeLinear" in ops(result)
    assert [miss.reason for miss in result.near_misses] == ["quantize0 stays: a code differs"]


def test_the_pass_alone():
    model = ir.from_proto(model_of())
    assert FuseQuantize()(model).modified
    assert model.graph[0].op_type == "RMSNormQuantize"
    assert not FuseQuantize()(model).modified
