"""A norm and what stands around it, fused to one op, and its numbers against float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir

from rms_deploy.fusion.fuse import FusionResult, fuse
from rms_deploy.fusion.proof.prove import Proof
from rms_deploy.ops import schemas
from rms_deploy.ops.contract import OPS
from rms_deploy.ops.nodes import norm_nodes
from rms_deploy.ops.reference import outputs_of
from rms_deploy.ops.ulp import ulp_distance


def check_one(model: onnx.ModelProto, kind: str, feeds: dict[str, np.ndarray]) -> FusionResult:
    """`model` fuses to one op `kind` that reads what the model is fed, has the numbers of float64, and stays fused."""
    result = fuse(model)
    assert [norm.kind for norm in result.norms] == [kind]
    assert [norm.unproven for norm in result.norms] == [""]
    assert not result.near_misses
    fused = ir.to_proto(result.model)
    schemas.register()
    onnx.checker.check_model(fused, full_check=True)
    onnx.shape_inference.infer_shapes(fused, check_type=True, strict_mode=True, data_prop=True)
    (node,) = norm_nodes(result.model)
    given = {**feeds, **{name: value.const_value.numpy() for name, value in result.model.graph.initializers.items()}}
    inputs = {name: given[value.name] for (name, _), value in zip(OPS[kind].inputs, node.inputs, strict=True)}
    expected = outputs_of(OPS[kind], inputs, **{name: value.value for name, value in node.attributes.items()})
    feeds = {value.name: feeds[value.name] for value in fused.graph.input}
    names = [value.name for value in node.outputs]
    results = zip(names, onnx.reference.ReferenceEvaluator(fused).run(names, feeds), expected, strict=True)
    for name, actual, exact in results:
        assert_near(actual, exact, shift=np.abs(inputs["shift"]) if "shift" in inputs and name == names[0] else 0.0)
    again = fuse(fused)
    assert (again.norms, again.near_misses) == ((), ())
    assert ir.to_proto(again.model).SerializeToString(deterministic=True) == fused.SerializeToString(deterministic=True)
    return result


def failing(why_not: str) -> Callable[[ir.Node, Proof, str], bool]:
    """What keeps no proof, for a pass that shall find that both forms differ."""

    def keep(norm: ir.Node, _: Proof, key: str) -> bool:
        norm.meta[key] = why_not
        return False

    return keep


def assert_near(actual: np.ndarray, expected: np.ndarray, *, shift: np.ndarray | float = 0.0) -> None:
    """float32: a norm rounds some ten times, 16 eps of the element, and of the shift that may cancel it.

    Half types: what float32 rounds is far below one ulp. It moves an element over a rounding boundary, by one ulp of
    what is rounded first, in few elements. Codes are compared alike: by one, in few elements.
    """
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    if actual.dtype == np.float32:
        tolerance = 16 * 2.0**-23 * (np.abs(expected) + np.abs(expected - shift) + shift)
        assert (np.abs(actual - expected) <= tolerance + 1e-35).all()
        return
    if actual.dtype.itemsize == 1:
        distance = np.abs(actual.view(np.int8).astype(int) - expected.view(np.int8).astype(int))
        assert distance.max() <= 1
    else:
        distance = ulp_distance(actual, expected) if isinstance(shift, float) else actual != expected
    assert np.count_nonzero(distance) <= max(1, actual.size // 50)
