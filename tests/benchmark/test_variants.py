"""The forms of a model: what each contains, and what cannot be made."""

from __future__ import annotations

from collections import Counter

import onnx
import onnx_ir as ir
import pytest

from rms_deploy.benchmark.variants import ORIGINAL, VARIANTS, write_variant
from rms_deploy.errors import InputError

BODY = "sq = Mul(x, x)\n ms = ReduceMean(sq, last)\n me = Add(ms, eps)\n rt = Sqrt(me)\n y = Div(x, rt)"


@pytest.mark.parametrize(
    ("name", "ops"),
    [
        ("decomposed", {"Mul": 1, "ReduceMean": 1, "Add": 1, "Sqrt": 1, "Div": 1}),
        ("fused", {"RMSNorm": 1}),
        ("standard", {"RMSNormalization": 1}),
        ("onnxruntime", {"SimplifiedLayerNormalization": 1}),
    ],
)
def test_a_variant_has_its_ops(build, tmp_path, name, ops):
    variant = write_variant(ir.from_proto(build(BODY)), name, tmp_path)
    found = Counter(node.op_type for node in onnx.load(variant.path).graph.node)
    assert {op: found[op] for op in ops} == ops
    assert variant.note == ""


def test_all_are_tested():
    marks = test_a_variant_has_its_ops.pytestmark
    assert {parameters[0] for mark in marks for parameters in mark.args[1]} == {*VARIANTS} - {ORIGINAL}


def test_what_cannot_be_made_says_why(build, tmp_path):
    with pytest.raises(InputError, match="the model has no RMSNorm to fuse"):
        write_variant(ir.from_proto(build("y = Exp(x)")), "fused", tmp_path)
    partial = (
        "first = Slice(x, zero, four, last)\n sq = Mul(first, first)\n ms = ReduceMean(sq, last)\n"
        "me = Add(ms, eps)\n rt = Sqrt(me)\n y = Div(x, rt)"
    )
    model = build(partial)
    for name, value in (("zero", 0), ("four", 4)):
        model.graph.initializer.append(onnx.helper.make_tensor(name, onnx.TensorProto.INT64, [1], [value]))
    with pytest.raises(
        InputError, match=r"1 of 1 norms cannot take this form; `rms_deploy\.fuse` with target standard says why"
    ):
        write_variant(ir.from_proto(model), "standard", tmp_path)


def test_what_is_left_decomposed_is_noted(build, tmp_path):
    left = "a = Mul(y0, y0)\n b = ReduceMean(a, last)\n c = Add(b, eps)\n d = Sqrt(c)\n y = Div(x, d)"
    model = build(BODY.replace("y =", "y0 =") + "\n" + left)
    assert write_variant(ir.from_proto(model), "fused", tmp_path).note.startswith("1 left decomposed: ")
