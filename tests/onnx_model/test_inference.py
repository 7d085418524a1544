"""Shape inference: what onnx does not know is stood in for, functions are read as they are called, weights stay."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.inference import infer

FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16


def known(model, name, graph=None):
    graph = model.graph if graph is None else graph
    return infer(model).get((id(graph), name), (None, None))


WEIGHTS = {
    "wide": np.ones((8, 16), np.float32),
    "three": np.ones((8, 24), np.float32),
    "bytes": np.ones((8, 16), np.uint8),
    "rows": np.int64([[1, 2, 3]]),
}


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("v = com.microsoft.SkipSimplifiedLayerNormalization (x, x, scale)", ("b", "s", 8)),
        ("w, m, i, v = com.microsoft.SkipSimplifiedLayerNormalization (x, x, scale)", ("b", "s", 8)),
        ("v = SimplifiedLayerNormalization (x, scale)", ("b", "s", 8)),
        ("v = com.microsoft.FastGelu (x)", ("b", "s", 8)),
        ("v = com.microsoft.MatMulNBits <K = 8, N = 5, bits = 4, block_size = 8> (x, scale, scale)", ("b", "s", 5)),
        ("v = com.microsoft.MultiHeadAttention <num_heads = 2> (x, x, x)", ("b", "s", 8)),
        ("h = MatMul (x, wide) v = com.microsoft.MultiHeadAttention <num_heads = 2> (x, x, h)", ("b", "s", 16)),
        (
            "v = com.microsoft.GroupQueryAttention <num_heads = 2, kv_num_heads = 1> (x, x, x, _, _, l, l)",
            ("b", "s", 8),
        ),
        ("h = MatMul (x, wide) v = com.microsoft.FusedMatMul <transB = 1> (h, wide)", ("b", "s", 8)),
        ("v = com.microsoft.FusedMatMul (x, wide)", ("b", "s", 16)),
        ("v = com.microsoft.FusedMatMul <transA = 1> (x, x)", ("b", 8, 8)),
        ("v = com.microsoft.DynamicQuantizeMatMul (x, bytes, half)", ("b", "s", 16)),
        (
            "q, f, o = DynamicQuantizeLinear (x) v = com.microsoft.MatMulIntegerToFloat (q, bytes, f, half)",
            ("b", "s", 16),
        ),
        ("v = com.microsoft.Attention <num_heads = 2> (x, three, scale)", ("b", "s", 8)),
        ("v = com.microsoft.GatherBlockQuantized <block_size = 16> (bytes, rows, wide)", (1, 3, 32)),
        ("q = com.microsoft.QuantizeLinear (x, half) v = com.microsoft.DequantizeLinear (q, half)", ("b", "s", 8)),
    ],
)
def test_operators_of_onnx_runtime(body, shape, build):
    proto = build(f"{body} y = Exp (v)")
    for name, array in WEIGHTS.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for node in proto.graph.node:
        node.input[:] = ["" if name == "_" else name for name in node.input]
    assert known(ir.from_proto(proto), "v") == (FLOAT, shape)


def test_a_query_with_keys_and_values_behind_it_has_another_width(build):
    """Two heads, one of keys and one of values: half of the last axis, which no inference tells."""
    proto = build("v = com.microsoft.GroupQueryAttention <num_heads = 2, kv_num_heads = 1> (x, l, l) y = Exp (v)")
    proto.graph.node[0].input[1:3] = ["", ""]
    dtype, (batch, length, width) = known(ir.from_proto(proto), "v")
    assert (dtype, batch, length) == (FLOAT, "b", "s")
    assert not isinstance(width, int)


def test_an_unknown_operator_is_known_by_what_the_file_says(build):
    proto = build("v = com.microsoft.Unknown (x) u = Exp (v) y = Neg (u)")
    assert known(ir.from_proto(proto), "u") == (None, None)
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("v", 1, ["b", 3]))
    assert known(ir.from_proto(proto), "u") == (FLOAT, ("b", 3))


FUNCTION = """
    <ir_version: 8, opset_import: ["" : 18, "local" : 1]>
    g (float[2,3] x, TYPE[4,3] z) => (float[2,3] y) {{ y = local.Outer (x) {second} }}
    <domain: "local", opset_import: ["" : 18, "local" : 1]> Outer (a) => (o) {{ o = local.Inner (a) }}
    <domain: "local", opset_import: ["" : 18]> Inner (a) => (o) {{ e = Exp (a) o = Neg (e) }}
"""


@pytest.mark.parametrize(
    ("second", "dtype", "expected"),
    [
        ("", "float", (FLOAT, (2, 3))),
        ("w = local.Inner (z)", "float", (FLOAT, ("any", 3))),
        ("w = local.Inner (z)", "float16", (None, None)),
    ],
    ids=["one call", "two shapes", "two types"],
)
def test_a_function_knows_what_all_its_callers_pass(second, dtype, expected):
    text = FUNCTION.format(second=second).replace("TYPE", dtype)
    model = ir.from_proto(onnx.parser.parse_model(text))
    known_type, shape = known(model, "e", model.functions["local", "Inner", ""].graph)
    assert (known_type, shape and tuple("any" if isinstance(dim, str) else dim for dim in shape)) == expected


def test_where_inference_fails_nothing_is_known(build, monkeypatch):
    def fails(*_, **__):
        raise onnx.shape_inference.InferenceError("no")

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", fails)
    assert infer(ir.from_proto(build("y = Exp (x)"))) == {}


def test_weights_are_not_loaded(build):
    model = ir.from_proto(build("v = MatMul (x, w) y = Exp (v)", inputs="float[b,8] x, float[8,512] w"))
    weight = model.graph.inputs.pop()

    def fail():
        raise AssertionError

    weight.const_value = ir.LazyTensor(fail, dtype=FLOAT, shape=ir.Shape([8, 512]), name="w")
    model.graph.register_initializer(weight)
    assert known(model, "v") == (FLOAT, ("b", 512))


def test_the_body_of_an_unknown_operator_is_as_its_inputs_declare(build):
    body = "y = com.microsoft.Search (x) <decoder = d (float[b,8] a) => (float[b,8] o) { e = Exp (a) o = Neg (e) }>"
    model = ir.from_proto(build(body))
    inside = model.graph[0].attributes["decoder"].as_graph()
    assert known(model, "e", inside) == (FLOAT, ("b", 8))


def test_functions_that_double_are_not_inlined(monkeypatch):
    given = []
    right = onnx.shape_inference.infer_shapes
    monkeypatch.setattr(
        onnx.shape_inference,
        "infer_shapes",
        lambda proto, **how: given.append(len(proto.functions)) or right(proto, **how),
    )
    functions = "".join(
        f'<domain: "local", opset_import: ["" : 18, "local" : 1]> F{i} (a) => (o) '
        f"{{ t = local.F{i + 1} (a) o = local.F{i + 1} (t) }} "
        for i in range(25)
    )
    text = (
        '<ir_version: 8, opset_import: ["" : 18, "local" : 1]> g (float[2,3] x) => (float[2,3] y) { y = local.F0 (x) }'
        f'{functions} <domain: "local", opset_import: ["" : 18]> F25 (a) => (o) {{ o = Exp (a) }}'
    )
    model = ir.from_proto(onnx.parser.parse_model(text))
    assert known(model, "y") == (FLOAT, None)
    assert set(given) == {0}
