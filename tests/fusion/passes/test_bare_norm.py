"""Every norm of ours becomes one that other domains have too, and no number changes."""

from __future__ import annotations

import itertools

import pytest

from rms_deploy.fusion.passes.bare_norm import bare_norm, is_bare
from rms_deploy.fusion.passes.import_domains import import_domains
from rms_deploy.fusion.passes.lower_to_onnxruntime import LowerToOnnxRuntime
from rms_deploy.fusion.passes.lower_to_primitives import LowerToPrimitives
from rms_deploy.fusion.passes.lower_to_standard import LowerToStandard
from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.ops.contract import ELEMENT_TYPES, OPS
from rms_deploy.ops.nodes import norm_nodes

from .one_norm import SIZE, assert_near, assert_same, expected, one_norm, operators, run

BARE = {"RMSNorm", "PartialRMSNorm", "AddRMSNorm", "RMSNormReciprocal", "PartialRMSNormReciprocal"}
BARE |= {"AddRMSNormReciprocal"}
TYPES = [
    (dtype, sum_dtype, scale_type)
    for dtype, (sum_dtype, scale_type) in itertools.product(
        ("float32", "float16", "bfloat16"), itertools.product(("float32", "same"), repeat=2)
    )
    if dtype != "float32" or (sum_dtype, scale_type) == ("same", "same")
]
ROUNDINGS = pytest.mark.parametrize(("dtype", "sum_dtype", "scale_type"), TYPES)


def norm_of(op: str, dtype: str, sum_dtype: str, scale_type: str, **options):
    return one_norm(
        op,
        dtype,
        sum_dtype=dtype if sum_dtype == "same" else sum_dtype,
        scale_type=ELEMENT_TYPES[dtype if scale_type == "same" else scale_type],
        **options,
    )


@pytest.mark.parametrize("op", OPS)
@ROUNDINGS
def test_a_bare_norm(op, dtype, sum_dtype, scale_type) -> None:
    model = norm_of(op, dtype, sum_dtype, scale_type)
    before, exact = run(model), expected(model)
    (node,) = norm_nodes(model)
    is_bare_already = is_bare(node)
    norm = bare_norm(node, NewNodes(model), 20)
    assert (norm is node) is is_bare_already
    assert is_bare(norm)
    assert norm.op_type in BARE
    after = run(model)
    assert_same(after, before)
    assert_near(after, exact)


PLAIN = [name for name, op in OPS.items() if not op.is_partial and not op.is_reciprocal]


@pytest.mark.parametrize("op", PLAIN)
@pytest.mark.parametrize("scale_shape", [(SIZE,), (4, SIZE)], ids=["", "wide scale"])
@ROUNDINGS
def test_as_the_norm_of_onnx(op, dtype, sum_dtype, scale_type, scale_shape) -> None:
    model = norm_of(op, dtype, sum_dtype, scale_type, opset=23, scale_shape=scale_shape)
    before, exact = run(model), expected(model)
    assert LowerToStandard()(model).modified
    assert "RMSNormalization" in operators(model)
    assert not any(True for _ in norm_nodes(model))
    after = run(model)
    assert_same(after, before)
    assert_near(after, exact)


@pytest.mark.parametrize("op", PLAIN)
@ROUNDINGS
def test_as_the_norm_of_onnx_runtime(op, dtype, sum_dtype, scale_type) -> None:
    """Its norms round once, so that the other order differs; its op with a sum has one type of X and R."""
    model = norm_of(op, dtype, sum_dtype, scale_type)
    before = run(model)
    assert LowerToOnnxRuntime()(model).modified
    import_domains(model)
    sums_inside = op in ("AddRMSNorm", "AddRMSNormQuantize") or (op == "AddRMSNormShift" and scale_type == "same")
    sums_inside &= sum_dtype == "same"
    assert [name for name in operators(model) if name.endswith("LayerNormalization")] == [
        f"{'Skip' if sums_inside else ''}SimplifiedLayerNormalization"
    ]
    assert not any(True for _ in norm_nodes(model))
    if scale_type == "float32" or dtype == "float32" or OPS[op].prologue in ("AddFloat32", "SiluGate"):
        assert_same(run(model), before)


@pytest.mark.parametrize("op", OPS)
@ROUNDINGS
def test_as_primitives(op, dtype, sum_dtype, scale_type) -> None:
    model = norm_of(op, dtype, sum_dtype, scale_type)
    before, exact = run(model), expected(model)
    assert LowerToPrimitives()(model).modified
    assert not any(True for _ in norm_nodes(model))
    assert not model.functions
    after = run(model)
    assert_same(after, before)
    assert_near(after, exact)
