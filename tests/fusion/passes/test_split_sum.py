"""A sum in front of its norm: no number changes, in any type and any order of rounding."""

from __future__ import annotations

import pytest

from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.split_sum import has_wide_sum, split_sum
from rms_deploy.ops.contract import ELEMENT_TYPES, OPS
from rms_deploy.ops.nodes import norm_nodes

from .one_norm import assert_near, assert_same, expected, one_norm, operators, run

SUMS = [name for name, op in OPS.items() if op.is_add]


@pytest.mark.parametrize("op", SUMS)
@pytest.mark.parametrize(
    ("dtype", "sum_dtype", "scale_dtype", "scale_type"),
    [
        ("float32", "float32", "float32", "float32"),
        ("float16", "float16", "float16", "float16"),
        ("float16", "float32", "float32", "float16"),
        ("bfloat16", "float32", "bfloat16", "float32"),
        ("bfloat16", "bfloat16", "float32", "float32"),
    ],
)
def test_no_number_changes(op, dtype, sum_dtype, scale_dtype, scale_type) -> None:
    options = {"sum_dtype": sum_dtype, "scale_dtype": scale_dtype, "scale_type": ELEMENT_TYPES[scale_type]}
    model = one_norm(op, dtype, **options)
    before, exact = run(model), expected(model)
    (node,) = norm_nodes(model)
    assert has_wide_sum(node) is (op == "AddFloat32RMSNorm" or sum_dtype != dtype)
    norm = split_sum(node, NewNodes(model))
    assert not OPS[norm.op_type].is_add
    assert norm.name == "the_norm"
    assert [value.name for value in model.graph.outputs] == ["Y", "Sum"]
    after = run(model)
    assert_same(after, before)
    assert_near(after, exact)


@pytest.mark.parametrize(
    ("op", "sum_dtype", "scale_type", "kinds"),
    [
        ("AddRMSNorm", "float16", "float32", ["Add", "RMSNorm"]),
        ("AddRMSNorm", "float32", "float32", ["Cast", "Add", "Cast", "RMSNorm"]),
        ("AddFloat32RMSNorm", "float32", "float16", ["Cast", "Add", "RMSNorm", "Cast", "Mul"]),
        ("AddFloat32RMSNorm", "float16", "float16", ["Cast", "Cast", "Add", "Cast", "RMSNorm", "Cast", "Mul"]),
    ],
)
def test_there_are_no_more_nodes_than_are_needed(op, sum_dtype, scale_type, kinds) -> None:
    model = one_norm(op, "float16", sum_dtype=sum_dtype, scale_type=ELEMENT_TYPES[scale_type])
    split_sum(next(norm_nodes(model)), NewNodes(model))
    assert operators(model) == kinds
