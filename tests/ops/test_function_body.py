"""The function bodies against the float64 reference, with no library of ours.

onnx's reference evaluator runs them as they are written. ONNX Runtime's CPU provider computes float16 in float32 and
drops the roundings in between, so what it returns is compared with the unrounded result only.
"""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnx.helper as oh
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

from rms_deploy.errors import InputError
from rms_deploy.ops import reference
from rms_deploy.ops.contract import (
    ADD_FLOAT32_RMS_NORM,
    ADD_RMS_NORM,
    DOMAIN,
    ELEMENT_TYPES,
    OPS,
    PARTIAL_RMS_NORM,
    QUANTIZED_TYPES,
    RMS_NORM,
    RMS_NORM_QUANTIZE,
    Op,
    reciprocal,
)
from rms_deploy.ops.element_types import element_dtype
from rms_deploy.ops.function_body import node_body
from rms_deploy.ops.functions import attach_functions

rng = np.random.default_rng(0)


def model_of(
    op: Op,
    x_shape: tuple[int, ...],
    scale_shape: tuple[int, ...],
    *,
    dtype: str = "float32",
    scale_dtype: str | None = None,
    sum_dtype: str | None = None,
    opset: int = 20,
    **attributes: object,
) -> ir.Model:
    types = {
        "T": ELEMENT_TYPES[dtype],
        "U": ELEMENT_TYPES[sum_dtype or dtype],
        "S": ELEMENT_TYPES[scale_dtype or dtype],
        "Q": attributes.get("output_dtype"),
    }
    inputs = [
        oh.make_tensor_value_info(name, types[kind], scale_shape if kind == "S" else x_shape)
        for name, kind in op.inputs
    ]
    outputs = [oh.make_tensor_value_info(name, types[kind], x_shape) for name, kind in op.outputs]
    node = oh.make_node(op.name, [i.name for i in inputs], [o.name for o in outputs], domain=DOMAIN, **attributes)
    graph = oh.make_graph([node], "norm", inputs, outputs)
    model = ir.from_proto(
        oh.make_model(graph, opset_imports=[oh.make_opsetid("", opset), oh.make_opsetid(DOMAIN, 1)], ir_version=9)
    )
    attach_functions(model)
    return model


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return ort.InferenceSession(ir.to_proto(model).SerializeToString()).run(None, feeds)


def run_as_written(model: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)


def assert_close(actual: np.ndarray, exact: np.ndarray, *, roundings: float) -> None:
    """Each rounding to the dtype costs half a unit in the last place, at most eps / 2 relative; float32 statistics of
    a few hundred elements add less than four float32 roundings."""
    tolerance = (roundings * np.finfo(actual.dtype).eps / 2 + 4 * np.finfo(np.float32).eps) * np.abs(exact)
    tiny = np.finfo(actual.dtype).smallest_subnormal
    np.testing.assert_array_less(np.abs(actual.astype(np.float64) - exact), tolerance + tiny)


ORDERS = pytest.mark.parametrize("round_before_scale", [False, True], ids=["once", "first"])


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 23])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("epsilons", [{}, {"epsilon": 0.25, "rms_epsilon": 0.5, "rms_min": 1.7}])
def test_onnxruntime_runs_it(opset: int, dtype: str, epsilons: dict[str, float]) -> None:
    x = rng.normal(size=(2, 5, 111)).astype(dtype)
    scale = rng.normal(size=111).astype(dtype)
    model = model_of(RMS_NORM, x.shape, scale.shape, dtype=dtype, opset=opset, **epsilons)
    (y,) = run(model, {"X": x, "scale": scale})
    assert y.dtype == x.dtype
    assert_close(y, reference.rms_norm(x, scale, dtype=np.float64, **epsilons), roundings=1)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("scale_dtype", ["same", "float32"])
@ORDERS
def test_rounding_order(dtype: str, scale_dtype: str, round_before_scale: bool) -> None:
    x = rng.normal(size=(2, 5, 111)).astype(element_dtype(dtype))
    scale_dtype = dtype if scale_dtype == "same" else scale_dtype
    scale = rng.normal(size=111).astype(element_dtype(scale_dtype))
    scale_type = ELEMENT_TYPES[dtype if round_before_scale else "float32"]
    model = model_of(RMS_NORM, x.shape, scale.shape, dtype=dtype, scale_dtype=scale_dtype, scale_type=scale_type)
    (y,) = run_as_written(model, {"X": x, "scale": scale})
    # Right up to the rare rounding that float32 statistics tip; the other order differs in about a quarter.
    assert np.mean(y != reference.rms_norm(x, scale, round_before_scale=round_before_scale)) < 0.01
    assert np.mean(y != reference.rms_norm(x, scale, round_before_scale=not round_before_scale)) > 0.1


def required(op: Op) -> dict[str, object]:
    """The attributes that a node of `op` cannot do without."""
    values = {"partial_size": 3, "y_scale": 0.02, "output_dtype": QUANTIZED_TYPES["int8"]}
    return {a.name: values[a.name] for a in op.attributes if a.default is None}


AROUND = pytest.mark.parametrize(
    "op", [op for op in OPS.values() if op.is_shifted or op.is_add or op.is_quantized], ids=lambda op: op.name
)


@pytest.mark.parametrize("opset", [13, 18, 20, 23])
@pytest.mark.parametrize("sum_dtype", ["float32", "same"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@AROUND
@ORDERS
def test_what_stands_around(op: Op, dtype: str, sum_dtype: str, opset: int, round_before_scale: bool) -> None:
    """Right up to the rare rounding that float32 statistics tip; in float32 every second element is one."""
    sum_dtype = dtype if sum_dtype == "same" else sum_dtype
    attributes = {**required(op), "scale_type": ELEMENT_TYPES[dtype if round_before_scale else "float32"]}
    types = {"T": dtype, "S": dtype, "U": sum_dtype}
    shapes = {"T": (2, 5, 111), "U": (2, 5, 111), "S": (111,)}
    feeds = {name: rng.normal(size=shapes[kind]).astype(element_dtype(types[kind])) for name, kind in op.inputs}
    model = model_of(op, (2, 5, 111), (111,), dtype=dtype, sum_dtype=sum_dtype, opset=opset, **attributes)
    y, *total = run_as_written(model, feeds)
    expected, *expected_total = reference.outputs_of(op, feeds, **attributes)
    assert y.dtype == expected.dtype
    if dtype == "float32" and not op.is_quantized:
        exact, *_ = reference.outputs_of(op, feeds, dtype=np.float64, **attributes)
        size = np.abs(exact) + np.abs(feeds.get("shift", 0))  # a shift may cancel what was rounded before it
        np.testing.assert_array_less(np.abs(y - exact), 8 * np.finfo(np.float32).eps * size + 1e-30)
    else:
        assert np.mean(y != expected) < 0.01
    assert [t.tobytes() for t in total] == [t.tobytes() for t in expected_total]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_quotient_is_rounded_to_the_precision(dtype: str) -> None:
    op, number = RMS_NORM_QUANTIZE, ELEMENT_TYPES[dtype]
    feeds = {"X": rng.normal(size=(50, 64)).astype(element_dtype(dtype)), "scale": np.ones(64, element_dtype(dtype))}
    y_scale = float(np.asarray(0.0213).astype(element_dtype(dtype)))
    codes = []
    for precision in (1, number):
        attributes = {"y_scale": y_scale, "output_dtype": 3, "precision": precision}
        (y,) = run_as_written(model_of(op, (50, 64), (64,), dtype=dtype, opset=21, **attributes), feeds)
        assert np.mean(y != reference.outputs_of(op, feeds, **attributes)[0]) < 0.001
        codes.append(y)
    assert np.mean(codes[0] != codes[1]) > 0.005


def test_a_float32_sum_is_not_what_a_rounded_one_is() -> None:
    x, r = (rng.normal(size=(5, 64)).astype(np.float16) for _ in "xr")
    feeds = {"X": x, "R": r, "scale": np.ones(64, np.float16)}
    unrounded, rounded = (
        run_as_written(model_of(op, (5, 64), (64,), dtype="float16"), feeds)[0]
        for op in (ADD_FLOAT32_RMS_NORM, ADD_RMS_NORM)
    )
    assert np.mean(unrounded != rounded) > 0.1


GATED = pytest.mark.parametrize("op", [op for op in OPS.values() if op.is_gated], ids=lambda op: op.name)


@pytest.mark.parametrize("opset", [11, 13, 18, 23])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@GATED
@ORDERS
def test_a_gate(op: Op, dtype: str, opset: int, round_before_scale: bool) -> None:
    if dtype == "bfloat16" and opset < 13:
        pytest.skip("Cast and Mul have no bfloat16 there")
    x, z = (rng.normal(size=(2, 5, 111)).astype(element_dtype(dtype)) for _ in "xz")
    scale = rng.normal(size=111).astype(element_dtype(dtype))
    scale_type = ELEMENT_TYPES[dtype if round_before_scale else "float32"]
    model = model_of(op, x.shape, scale.shape, dtype=dtype, opset=opset, scale_type=scale_type)
    (y,) = run_as_written(model, {"X": x, "Z": z, "scale": scale})
    options = {"gate": op.gate, "before": op.gates_first}
    assert y.dtype == x.dtype
    if dtype == "float32":  # the gate adds a root, a quotient and two products to the roundings of the norm
        assert_close(y, reference.gated_rms_norm(x, z, scale, dtype=np.float64, **options), roundings=8)
        return
    assert np.mean(y != reference.gated_rms_norm(x, z, scale, round_before_scale=round_before_scale, **options)) < 0.01
    other = reference.gated_rms_norm(x, z, scale, round_before_scale=not round_before_scale, **options)
    assert np.mean(y != other) > 0.1


@GATED
def test_onnxruntime_runs_a_gate(op: Op) -> None:
    """Its Sigmoid is right to some 1e-7, so that a shut gate is not; here none is shut."""
    x, z = rng.normal(size=(2, 5, 64)).astype(np.float32), rng.uniform(0.5, 3, size=(2, 5, 64)).astype(np.float32)
    scale = rng.normal(size=64).astype(np.float32)
    (y,) = run(model_of(op, x.shape, scale.shape), {"X": x, "Z": z, "scale": scale})
    expected = reference.gated_rms_norm(x, z, scale, gate=op.gate, before=op.gates_first)
    np.testing.assert_allclose(y, expected, rtol=2e-6)


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 23])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("op", [RMS_NORM, PARTIAL_RMS_NORM, ADD_RMS_NORM], ids=lambda op: op.name)
def test_a_rounded_reciprocal(op: Op, dtype: str, opset: int) -> None:
    """Bit for bit, in these rows: float32 has the same number of the half type for 1 / rms as float64 has."""
    if dtype == "bfloat16" and opset < 13:
        pytest.skip("Cast and Mul have no bfloat16 there")
    generator = np.random.default_rng(1)
    x, r, scale = (generator.normal(size=size).astype(element_dtype(dtype)) for size in ((5, 64), (5, 64), 64))
    options: dict[str, object] = {"partial_size": 9} if op.is_partial else {}
    model = model_of(
        reciprocal(op), (5, 64), (64,), dtype=dtype, opset=opset, scale_type=ELEMENT_TYPES[dtype], **options
    )
    (node,) = model.graph
    feeds = {"X": x, **({"R": r} if op.is_add else {}), "scale": scale}
    y, *total = run_as_written(model, feeds)
    if op.is_add:
        x = x + r
        assert total[0].tobytes() == x.tobytes()
    order = {"round_before_scale": True, **options}
    assert y.tobytes() == reference.rms_norm(x, scale, round_reciprocal=True, **order).tobytes()
    assert np.mean(y != reference.rms_norm(x, scale, **order)) > 0.1
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    assert "Div" not in [inner.op_type for inner in node_body(OPS[node.op_type], node, opset=opset).node]


def test_a_reciprocal_op_that_scales_in_float32_rounds_once() -> None:
    x, scale = (rng.normal(size=size).astype(np.float16) for size in ((5, 64), 64))
    (y,) = run_as_written(model_of(reciprocal(RMS_NORM), x.shape, (64,), dtype="float16"), {"X": x, "scale": scale})
    assert np.mean(y != reference.rms_norm(x, scale)) < 0.01


def test_a_plain_norm_keeps_its_body_beside_one_with_a_rounded_reciprocal() -> None:
    """ONNX Runtime fuses the one, and the other has no Div that it could take for its own norm."""
    model = ir.from_onnx_text("""<ir_version: 9, opset_import: ["": 20, "rms_deploy": 1]>
    g (float16[2,64] x, float16[64] w) => (float16[2,64] p, float16[2,64] q) {
      p = rms_deploy.RMSNorm <scale_type = 10> (x, w)
      q = rms_deploy.RMSNormReciprocal <scale_type = 10> (x, w)
    }""")
    attach_functions(model)
    alone = model_of(RMS_NORM, (2, 64), (64,), dtype="float16", scale_type=10)
    key = (DOMAIN, RMS_NORM.name, "")
    bodies = [ir.serde.serialize_function(m.functions[key]).SerializeToString() for m in (model, alone)]
    assert bodies[0] == bodies[1]
    ends = op_types(model, "RMSNormReciprocal")[-7:]
    assert ends == ["Reciprocal", "Cast", "Cast", "Mul", "Cast", "Mul", "CastLike"]


@pytest.mark.parametrize(
    ("axes", "scale_shape"),
    [
        *(([1], (6, 1, 1)), ([-1], (5,)), ([1, 2], (6, 4, 1)), ([-2, -1], (4, 5)), ([0], ())),
        *(([-1], (4, 5)), ([-1], (3, 1, 1, 5)), ([2], (6, 1, 1))),
    ],
)
@pytest.mark.parametrize("op", [RMS_NORM, PARTIAL_RMS_NORM])
@pytest.mark.parametrize("opset", [17, 18])
def test_axes(axes: list[int], scale_shape: tuple[int, ...], op: Op, opset: int) -> None:
    x = rng.normal(size=(3, 6, 4, 5)).astype(np.float32)
    scale = rng.normal(size=scale_shape).astype(np.float32)
    partial = {"partial_size": 3} if op is PARTIAL_RMS_NORM else {}
    if partial and len(axes) > 1 and opset < 18:
        with pytest.raises(InputError, match="over several axes needs opset >= 18, the model has 17"):
            model_of(op, x.shape, scale_shape, opset=opset, axes=axes, **partial)
        return
    (y,) = run(model_of(op, x.shape, scale_shape, opset=opset, axes=axes, **partial), {"X": x, "scale": scale})
    assert_close(y, reference.rms_norm(x, scale, axes=axes, dtype=np.float64, **partial), roundings=1)


def test_add_rms_norm_uses_the_rounded_sum() -> None:
    x, r = (rng.normal(size=(4, 96)).astype(np.float16) for _ in range(2))
    scale = rng.normal(size=96).astype(np.float16)
    y, total = run_as_written(
        model_of(ADD_RMS_NORM, x.shape, scale.shape, dtype="float16"), {"X": x, "R": r, "scale": scale}
    )
    np.testing.assert_array_equal(total, (x.astype(np.float64) + r.astype(np.float64)).astype(np.float16))
    assert_close(y, reference.rms_norm(total, scale, dtype=np.float64), roundings=1)


def op_types(model: ir.Model, name: str) -> list[str]:
    return [node.op_type for node in model.functions[(DOMAIN, name, "")]]


def test_the_body_is_one_text_for_all_types_orders_and_opsets() -> None:
    """So what converts a model and leaves its functions alone leaves them right; a newer opset needs a new import."""
    for op in OPS.values():
        ours = [(DOMAIN, 1)] if op.is_quantized else []
        partial = required(op)
        texts = set()
        for dtype, opset in itertools.product(ELEMENT_TYPES, (18, 20, 21, 23, 24)):
            for scale_type in {1, ELEMENT_TYPES[dtype]}:
                model = model_of(op, (2, 8), (8,), dtype=dtype, opset=opset, scale_type=scale_type, **partial)
                (body,) = (f for f in ir.to_proto(model).functions if f.name == op.name)
                assert [(i.domain, i.version) for i in body.opset_import] == [("", opset), *ours]
                body.ClearField("opset_import")
                texts.add(body.SerializeToString(deterministic=True))
        assert len(texts) == 1, op.name


def test_the_nodes_of_a_body_have_names() -> None:
    for op, opset in itertools.product((RMS_NORM, ADD_RMS_NORM, reciprocal(RMS_NORM)), (11, 13, 17, 20)):
        names = [node.name for node in model_of(op, (2, 8), (8,), opset=opset).functions[(DOMAIN, op.name, "")]]
        assert all(names)
        assert len(set(names)) == len(names)


def test_bounds_of_the_root_are_there_where_a_node_has_them() -> None:
    assert "Max" not in op_types(model_of(RMS_NORM, (2, 8), (8,)), "RMSNorm")
    assert "Max" in op_types(model_of(RMS_NORM, (2, 8), (8,), rms_min=1.0), "RMSNorm")


def test_the_body_of_one_node_holds_nothing_unneeded() -> None:
    def written(**options: object) -> list[str]:
        (node,) = model_of(RMS_NORM, (2, 8), (8,), **options).graph
        return [node.op_type for node in node_body(RMS_NORM, node, opset=20).node]

    plain = ["Constant", "Pow", "Constant", "ReduceMean", "Constant", "Add", "Sqrt", "Div", "Mul"]
    assert written() == plain
    assert written(dtype="bfloat16") == ["Cast", *plain[:-1], "Cast", "Mul", "Cast"]
    assert written(dtype="bfloat16", scale_type=16) == ["Cast", *plain[:-1], "Cast", "Mul"]


def optimized(model: ir.Model, path: str) -> list[str]:
    """The operators of a model as ONNX Runtime loads it by default."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = path
    ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("opset", [13, 17, 18, 20, 21, 23])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_onnxruntime_fuses_the_inlined_body(dtype: str, opset: int, tmp_path) -> None:
    """In float32 nothing else is left of it; the CPU provider casts around what it has no kernel for in float16."""
    text = {"float32": "float", "float16": "float16"}[dtype]
    model = ir.from_onnx_text(f"""<ir_version: 9, opset_import: ["": {opset}, "rms_deploy": 1]>
    g ({text}[b,8] x, {text}[8] scale) => ({text}[b,8] y) <{text}[b,8] a, {text}[b,8] n> {{
        a = Neg (x)
        n = rms_deploy.RMSNorm (a, scale)
        y = Neg (n)
    }}""")
    attach_functions(model)
    names = optimized(model, str(tmp_path / "optimized.onnx"))
    if dtype == "float16":
        names = [name for name in names if name != "Cast"]
    assert names == ["Neg", "SimplifiedLayerNormalization", "Neg"]


@pytest.mark.parametrize("to", ["float32", "float16"])
@pytest.mark.parametrize("op", [RMS_NORM, ADD_RMS_NORM])
def test_a_body_serves_the_model_in_another_type(op: Op, to: str, tmp_path) -> None:
    """What converts a model to half precision changes its graph, and leaves its functions as they are."""
    before = model_of(op, (2, 64), (64,), dtype="float16" if to == "float32" else "float32")
    after = model_of(op, (2, 64), (64,), dtype=to)
    after.functions.clear()
    after.functions.update(before.functions)
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    assert "SimplifiedLayerNormalization" in optimized(after, str(tmp_path / "optimized.onnx"))
    feeds = {name: rng.normal(size=64 if kind == "S" else (2, 64)).astype(to) for name, kind in op.inputs}
    exact = reference.outputs_of(op, feeds, dtype=np.float64)
    assert_close(run_as_written(after, feeds)[0], exact[0], roundings=1)


def test_one_body_serves_mixed_nodes() -> None:
    """float32, and float16 in both orders, in one model: the body takes type and order from each node."""
    text = """<ir_version: 9, opset_import: ["": 20, "rms_deploy": 1]>
    g (float[2,64] a, float16[2,64] b, float[64] v, float16[64] w)
      => (float[2,64] p, float16[2,64] q, float16[2,64] r) {
      p = rms_deploy.RMSNorm (a, v)
      q = rms_deploy.RMSNorm (b, w)
      r = rms_deploy.RMSNorm <scale_type = 10> (b, w)
    }"""
    model = ir.from_onnx_text(text)
    attach_functions(model)
    a, v = rng.normal(size=(2, 64)).astype(np.float32), rng.normal(size=64).astype(np.float32)
    b, w = a.astype(np.float16), v.astype(np.float16)
    p, q, r = run_as_written(model, {"a": a, "b": b, "v": v, "w": w})
    assert_close(p, reference.rms_norm(a, v, dtype=np.float64), roundings=1)
    assert np.mean(q != reference.rms_norm(b, w)) < 0.01
    assert np.mean(r != reference.rms_norm(b, w, round_before_scale=True)) < 0.01
    model.opset_imports[""] = 14
    with pytest.raises(InputError, match="opset 14 cannot express norms of several element types"):
        attach_functions(model)


def test_bodies_pass_the_checker() -> None:
    for op, dtype, opset in itertools.product(OPS.values(), ELEMENT_TYPES, (13, 18, 23)):
        proto = ir.to_proto(model_of(op, (2, 8), (8,), dtype=dtype, opset=opset, **required(op)))
        onnx.checker.check_model(proto, full_check=True)


def test_below_opset_12_the_constants_are_written_into_the_body() -> None:
    """Constant has no value_float there. So all nodes of an op have to agree."""
    model = model_of(RMS_NORM, (2, 8), (8,), opset=11, epsilon=0.25)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    other = next(iter(model.graph))
    model.graph.append(ir.node("RMSNorm", other.inputs, {"epsilon": 0.5}, domain=DOMAIN))
    with pytest.raises(InputError, match="different epsilon in one model of opset 11"):
        attach_functions(model)
