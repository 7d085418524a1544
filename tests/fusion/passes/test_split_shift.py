"""A shift beside its norm: no number changes, in any order of rounding."""

from __future__ import annotations

import pytest

from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.split_shift import split_shift
from rms_deploy.ops.contract import ELEMENT_TYPES
from rms_deploy.ops.nodes import norm_nodes

from .one_norm import SIZE, assert_near, assert_same, expected, one_norm, operators, run

FIRST, ONCE = ["Norm", "Add"], ["Cast", "Norm", "Add", "Cast"]


@pytest.mark.parametrize("op", ["RMSNormShift", "AddRMSNormShift"])
@pytest.mark.parametrize("scale_shape", [(SIZE,), (4, SIZE), ("B", 1, SIZE), ()])
@pytest.mark.parametrize(
    ("dtype", "scale_dtype", "scale_type", "kinds"),
    [
        ("float32", "float32", "float32", FIRST),
        ("float16", "float16", "float16", FIRST),
        ("float16", "float32", "float16", ["Norm", "Cast", "Add"]),
        ("float16", "float32", "float32", ONCE),
        ("bfloat16", "bfloat16", "float32", ["Cast", "Cast", "Norm", "Cast", "Add", "Cast"]),
    ],
)
def test_no_number_changes(op, dtype, scale_dtype, scale_type, kinds, scale_shape) -> None:
    model = one_norm(
        op, dtype, scale_dtype=scale_dtype, scale_shape=scale_shape, scale_type=ELEMENT_TYPES[scale_type], epsilon=0.1
    )
    before, exact = run(model), expected(model)
    norm = split_shift(next(norm_nodes(model)), NewNodes(model))
    is_inside = op == "RMSNormShift" or kinds[0] == "Norm"  # AddRMSNorm rounds the sum, so it makes it
    kinds = kinds if is_inside else ["Add", *kinds]
    name = op.removesuffix("Shift") if is_inside else "RMSNorm"
    assert norm.op_type == name
    assert operators(model) == [name if kind == "Norm" else kind for kind in kinds]
    assert [value.name for value in model.graph.outputs] == ["Y", "Sum"][: len(before)]
    after = run(model)
    assert_same(after, before)
    assert_near(after, exact)
