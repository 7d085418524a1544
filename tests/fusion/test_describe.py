"""What `fuse`, `unfuse` and `inspect` say of a norm, whatever form it has."""

from __future__ import annotations

import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.inspect import inspect

from .passes.one_norm import SIZE, one_norm

NORM = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, scale)"


def named(model, **places):
    """Give the nodes that produce these values the names of the places."""
    for node in model.graph.node:
        node.name = places.get(node.output[0], f"node_{node.output[0]}")
    return model


def test_a_decomposed_norm(build):
    (norm,) = inspect(named(build(NORM), m="/layers.0/norm/ReduceMean")).norms
    assert (norm.kind, norm.form, norm.note) == ("RMSNorm", "decomposed", "can be fused")
    assert (norm.node, norm.place) == ("/layers.0/norm/ReduceMean", "layers.0/norm")
    assert (norm.n, norm.axes, norm.dtype, norm.scale) == (8, (-1,), "float32", "float32[8]")
    assert norm.epsilon == pytest.approx(3e-4)


def test_the_place_in_torch_metadata(build):
    model = build(NORM)
    for node in model.graph.node:
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'layers.0', 'layers.0.norm', 'mean']")
    assert inspect(model).norms[0].place == "layers.0.norm"
    for node in model.graph.node:
        node.metadata_props[0].value = "not a list"
    assert inspect(model).norms[0].place == ""


def test_a_norm_is_described_alike_before_and_after(build):
    """The same norm, described before and after."""
    half = "u = Cast <to = 1> (x) q = Mul (u, u) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (u, r)"
    bodies = {
        "float": NORM,
        "float16": f"{half} h = Cast <to = 10> (n) y = Mul (h, g)",
        "bfloat16": f"{half} o = Mul (n, scale) y = Cast <to = 16> (o)",
    }
    for dtype, body in bodies.items():
        model = build(body, inputs=f"{dtype}[b,s,8] x, {dtype}[8] g", outputs=f"{dtype}[b,s,8] y")
        before, after = inspect(model).norms[0], inspect(fuse(model).model).norms[0]
        assert (before.form, after.form) == ("decomposed", "fused")
        for name in ("kind", "dtype", "axes", "n", "rounding", "scale", "rms_epsilon", "rms_min", "partial_size"):
            assert getattr(before, name) == getattr(after, name), name
        assert before.epsilon == pytest.approx(after.epsilon)


def test_kinds_of_fused_norms(build):
    first = "z0 = Constant <value_ints = [0]> () k = Constant <value_ints = [3]> () f = Slice (x, z0, k, last)"
    partial = NORM.replace("q = Mul (x, x)", f"{first} q = Mul (f, f)")
    residual = "h = Add (x, z) " + NORM.replace("(x, x)", "(h, h)").replace("(x, r)", "(h, r)")
    two = "float[b,s,8] x, float[b,s,8] z"
    kinds = [inspect(fuse(build(body, inputs=two)).model).norms[0] for body in (NORM, partial, residual)]
    assert [norm.kind for norm in kinds] == ["RMSNorm", "PartialRMSNorm", "AddRMSNorm"]
    assert [norm.partial_size for norm in kinds] == [None, 3, None]
    assert {norm.note for norm in kinds} == {""}


WHOLE = {
    "RMSNormalization": ("y = RMSNormalization (x, w)", "can be fused"),
    "SimplifiedLayerNormalization": ("y = SimplifiedLayerNormalization (x, w)", "can be fused"),
    "LayerNormalization": ("y = LayerNormalization <epsilon = 1e-3> (x, w)", "not an RMSNorm"),
    "SkipSimplifiedLayerNormalization": (
        "y = com.microsoft.SkipSimplifiedLayerNormalization (x, x, w)",
        "can be fused",
    ),
}


@pytest.mark.parametrize(("kind", "body", "note"), [(kind, *rest) for kind, rest in WHOLE.items()], ids=WHOLE)
def test_norms_that_are_one_op(kind, body, note, build):
    (norm,) = inspect(build(body, inputs="float[b,s,8] x, float[8] w", opset=23)).norms
    form = "standard" if kind in ("RMSNormalization", "LayerNormalization") else "onnxruntime"
    assert (norm.kind, norm.form, norm.note) == (kind, form, note)
    assert (norm.n, norm.axes, norm.dtype, norm.scale) == (8, (-1,), "float32", "float32[8]")
    epsilons = {"LayerNormalization": 1e-3, "SkipSimplifiedLayerNormalization": 1e-12}
    assert norm.epsilon == pytest.approx(epsilons.get(kind, 1e-5))


def test_why_a_norm_that_is_one_op_cannot_be_fused(build):
    (norm,) = inspect(build("y = RMSNormalization (x, w)", inputs="float[b,s,8] x, float[b,s,8] w", opset=23)).norms
    assert "scale has the shape" in norm.note


def test_the_form_that_was_asked_for_gets_no_note(build):
    (norm,) = fuse(build("y = RMSNormalization (x, scale)", opset=23), target="standard").fused_before
    assert (norm.form, norm.note) == ("standard", "")


def test_a_norm_that_no_search_recognises(build):
    (norm,) = inspect(build("y = com.microsoft.SkipLayerNormalization (x, x, scale)", opset=23)).norms
    assert norm.note == "not an RMSNorm"


@pytest.mark.parametrize(
    ("op", "sum_dtype", "expected"),
    [
        ("RMSNormShift", "float16", (None, None, None)),
        ("AddRMSNorm", "float16", ("float16", None, None)),
        ("AddFloat32RMSNorm", "float32", ("float32", None, None)),
        ("AddRMSNormQuantize", "float32", ("float32", "int8", 0.25)),
    ],
)
def test_what_stands_around_a_fused_norm(op, sum_dtype, expected):
    given = {"y_scale": 0.25} if "Quantize" in op else {}
    (norm,) = inspect(one_norm(op, "float16", sum_dtype=sum_dtype, **given)).norms
    assert norm.kind == op
    assert (norm.dtype, norm.rounding, norm.n, norm.scale) == ("float16", "once", SIZE, f"float16[{SIZE}]")
    assert (norm.sum_dtype, norm.output_dtype, norm.y_scale) == expected
