"""Models of one norm of ours, and what they give, run as they are written and by the float64 reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.helper as oh
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from rms_deploy.fusion.proof.reference_ops import NEW_OPS
from rms_deploy.ops import reference
from rms_deploy.ops.contract import DOMAIN, ELEMENT_TYPES, OPS, QUANTIZED_TYPES
from rms_deploy.ops.functions import attach_functions
from rms_deploy.ops.nodes import norm_nodes

SIZE = 24


def one_norm(
    op: str,
    dtype: str = "float32",
    *,
    sum_dtype: str = "",
    scale_dtype: str = "",
    scale_shape: tuple[int | str, ...] = (SIZE,),
    opset: int = 20,
    **attributes: Any,
) -> ir.Model:
    """A node called the_norm, with inputs X, R, Z, scale and shift, and outputs Y and Sum; R and scale are as X."""
    given = dict(attributes)
    if OPS[op].is_quantized:
        given = {"y_scale": 0.02, "output_dtype": QUANTIZED_TYPES["int8"], **given}
    if OPS[op].is_partial:
        given = {"partial_size": 7, **given}
    types = {"T": ELEMENT_TYPES[dtype], "Q": given.get("output_dtype")}
    types |= {"U": ELEMENT_TYPES[sum_dtype or dtype], "S": ELEMENT_TYPES[scale_dtype or dtype]}
    inputs, outputs = (
        [oh.make_tensor_value_info(n, types[kind], scale_shape if kind == "S" else ("B", 4, SIZE)) for n, kind in ends]
        for ends in (OPS[op].inputs, OPS[op].outputs)
    )
    names = ([value.name for value in ends] for ends in (inputs, outputs))
    node = oh.make_node(op, *names, domain=DOMAIN, name="the_norm", **given)
    graph = oh.make_graph([node], "g", inputs, outputs)
    imports = [oh.make_opsetid("", opset), oh.make_opsetid(DOMAIN, 1)]
    return ir.from_proto(oh.make_model(graph, opset_imports=imports, ir_version=10))


def feeds_of(model: ir.Model) -> dict[str, np.ndarray]:
    generator, feeds = np.random.default_rng(0), {}
    for value in model.graph.inputs:
        shape = [dim if isinstance(dim, int) else 3 for dim in value.shape]
        feeds[value.name] = (3 * generator.standard_normal(shape)).astype(value.dtype.numpy())
    return feeds


def run(model: ir.Model) -> list[np.ndarray]:
    """Our nodes are run by their bodies."""
    attach_functions(model)
    return ReferenceEvaluator(ir.to_proto(model), new_ops=NEW_OPS).run(None, feeds_of(model))


def expected(model: ir.Model) -> tuple[np.ndarray, ...]:
    """By the float64 reference."""
    (node,) = norm_nodes(model)
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    return reference.outputs_of(OPS[node.op_type], feeds_of(model), **attributes)


def operators(model: ir.Model) -> list[str]:
    """Without constants."""
    return [node.op_type for node in model.graph if node.op_type != "Constant"]


def assert_same(actual: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    """Bit for bit."""
    assert [(a.dtype, a.tobytes()) for a in actual] == [(b.dtype, b.tobytes()) for b in wanted]


def assert_near(actual: list[np.ndarray], wanted: tuple[np.ndarray, ...]) -> None:
    """Halves and codes: right up to the rare rounding that float32 statistics tip. float32: some eight roundings, of
    the size of what a shift may cancel, which is below 32."""
    for a, b in zip(actual, wanted, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if a.dtype == np.float32:
            np.testing.assert_allclose(a, b, rtol=8 * 2**-24, atol=32 * 8 * 2**-24)
        else:
            assert np.mean(a != b) < 0.01
