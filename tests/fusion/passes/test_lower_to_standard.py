"""RMSNormalization in the place of our nodes: the same numbers, and our node kept where it cannot say the same."""

from __future__ import annotations

import logging
import re
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from rms_deploy.errors import InputError
from rms_deploy.fusion.passes.lower_to_standard import LowerToStandard
from rms_deploy.ops import functions, reference, schemas
from rms_deploy.ops.contract import ELEMENT_TYPES
from rms_deploy.ops.element_types import element_dtype
from rms_deploy.ops.ulp import ulp_distance

N = 24


def build(node: str, *, dtype: str = "float", scale: str | None = None, outputs: int = 1, opset: int = 23) -> ir.Model:
    """A model of one node, with inputs x, r and scale, and outputs y and total."""
    declared = ", ".join(f"{dtype}[B,5,{N}] {name}" for name in ("y", "total")[:outputs])
    residual = f", {dtype}[B,5,{N}] r" if outputs == 2 else ""
    names = ", ".join(("y", "total")[:outputs])
    text = (
        f'<ir_version: 10, opset_import: ["" : {opset}, "rms_deploy" : 1]>\n'
        f"g ({dtype}[B,5,{N}] x{residual}, {scale or f'{dtype}[{N}]'} scale) => ({declared}) {{ {names} = {node} }}"
    )
    model = ir.from_proto(onnx.parser.parse_model(text))
    next(iter(model.graph)).name = "the_norm"
    return model


def feeds_of(model: ir.Model) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    feeds = {}
    for value in model.graph.inputs:
        shape = [dim if isinstance(dim, int) else 3 for dim in value.shape]
        feeds[value.name] = generator.standard_normal(shape).astype(value.dtype.numpy())
    if "x" in feeds:
        feeds["x"][0] *= 1e-2  # shows the epsilon
    return feeds


def lowered(model: ir.Model) -> list[str]:
    """Lower, check the graph, and name its operators."""
    assert LowerToStandard()(model).modified
    functions.attach_functions(model)
    proto = ir.to_proto(model)
    schemas.register()
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    assert not LowerToStandard()(model).modified, "lowering twice changes nothing"
    return [node.op_type for node in model.graph]


def with_bodies(model: onnx.ModelProto) -> onnx.ModelProto:
    """RMSNormalization as the body that its specification gives.

    Runtimes take liberties in half types: ONNX Runtime rounds once, and onnx's own evaluator has half-precision
    statistics.
    """
    schema = onnx.defs.get_schema("RMSNormalization", 23, "")
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.SerializeToString() for value in (*graph.input, *graph.value_info, *graph.output)}
    for node in [node for node in model.graph.node if node.op_type == "RMSNormalization"]:
        inputs = [types[name] for name in node.input]
        body = onnx.FunctionProto()
        body.ParseFromString(
            schema.get_context_dependent_function_with_opset_version(23, node.SerializeToString(), inputs)
        )
        body.domain = node.domain = "specification"
        model.functions.append(body)
    model.opset_import.add(domain="specification", version=1)
    return model


def assert_equal_to_reference(model: ir.Model, expected: dict[str, np.ndarray]) -> None:
    """float32: 4 ulp of float32 statistics. Half types: one ulp for each rounding, in 1 of 100 elements at most."""
    proto = with_bodies(ir.to_proto(model))
    results = ReferenceEvaluator(proto).run(None, feeds_of(model))
    for name, actual in zip([output.name for output in proto.graph.output], results, strict=True):
        distance = ulp_distance(actual, expected[name])
        assert distance.max() <= (4 if actual.dtype == np.float32 else 2)
        assert actual.dtype == np.float32 or np.count_nonzero(distance) <= distance.size / 100


@pytest.mark.parametrize(
    ("dtype", "scale_type", "operators"),
    [
        ("float32", "float32", ["RMSNormalization"]),
        ("float16", "float16", ["RMSNormalization"]),
        ("bfloat16", "bfloat16", ["RMSNormalization"]),
        ("float16", "float32", ["Cast", "Cast", "RMSNormalization", "Cast"]),
        ("bfloat16", "float32", ["Cast", "Cast", "RMSNormalization", "Cast"]),
    ],
)
def test_the_rounding_order_stays(dtype, scale_type, operators) -> None:
    node = f"rms_deploy.RMSNorm <epsilon = 1e-3, scale_type = {ELEMENT_TYPES[scale_type]}> (x, scale)"
    model = build(node, dtype=dtype.replace("float32", "float"))
    assert lowered(model) == operators
    assert "rms_deploy" not in model.opset_imports
    feeds = feeds_of(model)
    expected = reference.rms_norm(
        feeds["x"], feeds["scale"], epsilon=1e-3, round_before_scale=scale_type == dtype != "float32"
    )
    assert expected.dtype == element_dtype(dtype)
    assert_equal_to_reference(model, {"y": expected})


@pytest.mark.parametrize(("scale_type", "casts"), [("float16", 1), ("float32", 2)])
def test_float32_scale_of_a_float16_norm(scale_type, casts) -> None:
    node = f"rms_deploy.RMSNorm <scale_type = {ELEMENT_TYPES[scale_type]}> (x, scale)"
    model = build(node, dtype="float16", scale=f"float[{N}]")
    assert lowered(model).count("Cast") == casts
    feeds = feeds_of(model)
    expected = reference.rms_norm(feeds["x"], feeds["scale"], round_before_scale=scale_type == "float16")
    assert_equal_to_reference(model, {"y": expected})


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_add(dtype) -> None:
    node = f"rms_deploy.AddRMSNorm <scale_type = {ELEMENT_TYPES[dtype]}> (x, r, scale)"
    model = build(node, dtype=dtype.replace("float32", "float"), outputs=2)
    assert lowered(model) == ["Add", "RMSNormalization"]
    feeds = feeds_of(model)
    y, total = reference.add_rms_norm(feeds["x"], feeds["r"], feeds["scale"], round_before_scale=dtype == "float16")
    assert_equal_to_reference(model, {"y": y, "total": total})


@pytest.mark.parametrize(
    ("axes", "scale", "axis"),
    [
        ("[-2, -1]", f"float[5,{N}]", -2),
        ("[1, 2]", f"float[5,{N}]", -2),
        ("[2]", f"float[{N}]", -1),
        ("[-1]", "float", -1),
    ],
)
def test_trailing_axes(axes, scale, axis) -> None:
    model = build(f"rms_deploy.RMSNorm <axes = {axes}> (x, scale)", scale=scale)
    assert lowered(model) == ["RMSNormalization"]
    assert next(iter(model.graph)).attributes["axis"].value == axis
    feeds = feeds_of(model)
    expected = reference.rms_norm(feeds["x"], feeds["scale"], axes=range(axis, 0))
    assert_equal_to_reference(model, {"y": expected})


def test_names_and_metadata_stay() -> None:
    model = build("rms_deploy.RMSNorm (x, scale)")
    node = next(iter(model.graph))
    node.metadata_props["scope"] = "layers.0.norm"
    lowered(model)
    (new,) = model.graph
    assert (new.name, new.metadata_props["scope"], new.outputs[0].name) == ("the_norm", "layers.0.norm", "y")


@pytest.mark.parametrize(
    ("node", "scale", "reason"),
    [
        ("rms_deploy.PartialRMSNorm <partial_size = 6> (x, scale)", None, "no partial mean"),
        ("rms_deploy.RMSNorm <rms_epsilon = 0.5> (x, scale)", None, "no rms_epsilon, here 0.5"),
        ("rms_deploy.RMSNorm <rms_min = 0.25> (x, scale)", None, "no rms_min, here 0.25"),
        ("rms_deploy.RMSNorm <axes = [1]> (x, scale)", "float[5,1]", r"only trailing axes, not \[1\]"),
        ("rms_deploy.RMSNorm <axes = [-3, -2]> (x, scale)", "float", "only trailing axes"),
    ],
)
def test_what_it_cannot_say_stays_and_is_named(node, scale, reason, caplog) -> None:
    model = build(node, scale=scale)
    with caplog.at_level(logging.WARNING):
        assert not LowerToStandard()(model).modified
    assert next(iter(model.graph)).domain == "rms_deploy"
    (record,) = caplog.records
    assert record.getMessage().startswith("the_norm (")
    assert re.search(reason, record.getMessage())


def test_unknown_rank_and_type_stay() -> None:
    model = build("rms_deploy.RMSNorm <axes = [2]> (x, scale)")
    model.graph.inputs[0].shape = None
    assert not LowerToStandard()(model).modified
    model = build("rms_deploy.RMSNorm (x, scale)")
    model.graph.inputs[0].type = None
    assert not LowerToStandard()(model).modified


@pytest.mark.parametrize("op", ["RMSNorm", "AddRMSNorm"])
@pytest.mark.parametrize(
    ("dtype", "scale_type", "operators"),
    [
        ("float32", "float32", ["RMSNormalization", "Mul"]),
        ("float16", "float16", ["RMSNormalization", "Mul"]),
        ("float16", "float32", ["Cast", "RMSNormalization", "Mul", "Cast"]),
    ],
)
def test_a_scale_of_several_rows_is_a_product_after_it(op, dtype, scale_type, operators):
    """ONNX lets a scale broadcast to the axes of the norm only."""
    names, outputs = ("(x, r, scale)", 2) if op == "AddRMSNorm" else ("(x, scale)", 1)
    kind = dtype.replace("float32", "float")
    node = f"rms_deploy.{op} <epsilon = 1e-3, scale_type = {ELEMENT_TYPES[scale_type]}> {names}"
    model = build(node, dtype=kind, scale=f"{kind}[5,{N}]" if scale_type == dtype else f"float[5,{N}]", outputs=outputs)
    kinds = [kind for kind in lowered(model) if kind not in ("Constant", "Add")]
    assert kinds == operators
    feeds = feeds_of(model)
    options = {"epsilon": 1e-3, "round_before_scale": scale_type == dtype != "float32"}
    if op == "AddRMSNorm":
        y, total = reference.add_rms_norm(feeds["x"], feeds["r"], feeds["scale"], **options)
        assert_equal_to_reference(model, {"y": y, "total": total})
    else:
        assert_equal_to_reference(model, {"y": reference.rms_norm(feeds["x"], feeds["scale"], **options)})


def test_an_old_opset_is_a_near_miss() -> None:
    with pytest.raises(InputError, match="RMSNormalization needs opset >= 23, the model has 20"):
        LowerToStandard()(build("rms_deploy.RMSNorm (x, scale)", opset=20))


def test_a_constant_scalar_scale_is_written_out_and_its_initialiser_goes():
    model = build("rms_deploy.RMSNorm (x, scale)", scale="float")
    scale = model.graph.inputs.pop()
    scale.const_value = ir.tensor(np.float32(1.5), name="scale")
    model.graph.register_initializer(scale)
    assert lowered(model) == ["Constant", "RMSNormalization"]
    assert not model.graph.initializers
    values = next(iter(model.graph)).attributes["value"].as_tensor().numpy()
    np.testing.assert_array_equal(values, np.full(N, 1.5, np.float32))


def test_a_scalar_scale_that_may_be_overridden_stays():
    model = build("rms_deploy.RMSNorm (x, scale)", scale="float")
    scale = model.graph.inputs[-1]
    scale.const_value = ir.tensor(np.float32(1.5), name="scale")
    model.graph.register_initializer(scale)
    assert lowered(model) == ["RMSNormalization"]
    assert "scale" in model.graph.initializers
