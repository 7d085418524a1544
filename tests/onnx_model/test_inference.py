"""Shape inference: what onnx does not know is stood in for, functions are read as they are called, weights stay."""

from __future__ import annotations

import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.inference import infer

FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16


def known(model, name, graph=None):
    graph = model.graph if graph is None else graph
    return infer(model).get((id(graph), name), (None, None))


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("v = com.microsoft.SkipSimplifiedLayerNormalization (x, x, scale)", ("b", "s", 8)),
        ("w, m, i, v = com.microsoft.SkipSimplifiedLayerNormalization (x, x, scale)", ("b", "s", 8)),
        ("v = SimplifiedLayerNormalization (x, scale)", ("b", "s", 8)),
        ("v = com.microsoft.FastGelu (x)", ("b", "s", 8)),
        ("v = com.microsoft.MatMulNBits <K = 8, N = 5, bits = 4, block_size = 8> (x, scale, scale)", ("b", "s", 5)),
    ],
)
def test_operators_of_onnx_runtime(body, shape, build):
    assert known(ir.from_proto(build(f"{body} y = Exp (v)")), "v") == (FLOAT, shape)


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
