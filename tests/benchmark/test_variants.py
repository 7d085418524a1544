"""The forms of a model: what each contains, and what cannot be made."""

from __future__ import annotations

from collections import Counter

import onnx
import pytest

from rms_deploy.benchmark.variants import VARIANTS, write_variant
from rms_deploy.errors import InputError

BODY = "sq = Mul(x, x)\n ms = ReduceMean(sq, last)\n me = Add(ms, eps)\n rt = Sqrt(me)\n y = Div(x, rt)"


@pytest.mark.parametrize(
    ("name", "ops"),
    [
        ("original", {"Mul": 1, "ReduceMean": 1, "Add": 1, "Sqrt": 1, "Div": 1}),
        ("decomposed", {"Mul": 1, "ReduceMean": 1, "Add": 1, "Sqrt": 1, "Div": 1}),
        ("fused", {"RMSNorm": 1}),
        ("standard", {"RMSNormalization": 1}),
        ("onnxruntime", {"SimplifiedLayerNormalization": 1}),
    ],
)
def test_a_variant_has_its_ops(build, tmp_path, name, ops):
    onnx.save(build(BODY.replace("Div(x, rt)", "Div(x, rt)")), tmp_path / "a.onnx")
    variant = write_variant(tmp_path / "a.onnx", name, tmp_path)
    found = Counter(node.op_type for node in onnx.load(variant.path).graph.node)
    assert {op: found[op] for op in ops} == ops
    assert variant.note == ""


def test_all_are_tested():
    marks = test_a_variant_has_its_ops.pytestmark
    assert {parameters[0] for mark in marks for parameters in mark.args[1]} == set(VARIANTS)


def test_what_cannot_be_made_says_why(build, tmp_path):
    onnx.save(build("y = Exp(x)"), tmp_path / "a.onnx")
    with pytest.raises(InputError, match="the model has no RMSNorm to fuse"):
        write_variant(tmp_path / "a.onnx", "fused", tmp_path)
    with pytest.raises(InputError, match="variant 'fast' is not known; use original, "):
        write_variant(tmp_path / "a.onnx", "fast", tmp_path)
    partial = (
        "first = Slice(x, zero, four, last)\n sq = Mul(first, first)\n ms = ReduceMean(sq, last)\n"
        "me = Add(ms, eps)\n rt = Sqrt(me)\n y = Div(x, rt)"
    )
    model = build(partial)
    for name, value in (("zero", 0), ("four", 4)):
        model.graph.initializer.append(onnx.helper.make_tensor(name, onnx.TensorProto.INT64, [1], [value]))
    onnx.save(model, tmp_path / "b.onnx")
    with pytest.raises(InputError, match="1 of 1 norms cannot take this form; `fuse --target standard` says why"):
        write_variant(tmp_path / "b.onnx", "standard", tmp_path)


def test_what_is_left_decomposed_is_noted(build, tmp_path):
    left = "a = Mul(y0, y0)\n b = ReduceMean(a, last)\n c = Add(b, eps)\n d = Sqrt(c)\n y = Div(x, d)"
    onnx.save(build(BODY.replace("y =", "y0 =") + "\n" + left), tmp_path / "a.onnx")
    assert write_variant(tmp_path / "a.onnx", "fused", tmp_path).note.startswith("1 left decomposed: ")
