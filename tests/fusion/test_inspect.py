from __future__ import annotations

import json

import onnx
import onnx_ir as ir
import pytest

from rms_deploy.errors import ModelFileError
from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.inspect import inspect

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


def test_what_inspect_sees_is_what_fuse_does(build):
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


def test_near_misses(build):
    model = named(build(NORM, inputs="float[b,s,8] x, float eps"), e="layers.3/Add_2")
    result = inspect(model)
    assert not result.norms
    (miss,) = result.near_misses
    assert str(miss) == "layers.3/Add_2: epsilon is a graph input (eps)"
    assert miss.piece == "epsilon"


def test_norms_inside_bodies_and_functions(build):
    inner = NORM.replace("y =", "y1 =")
    body = f"""
        y = If (c) <then_branch = t () => (float[b,s,8] y1) {{ {inner} }},
                    else_branch = f () => (float[b,s,8] y2) {{ y2 = Neg (x) }}>
    """
    assert len(inspect(build(body, inputs="float[b,s,8] x, bool c")).norms) == 1


def test_nothing_is_changed(build):
    model = ir.from_proto(build(NORM))
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    inspect(model)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_counts_and_json(build, tmp_path):
    onnx.save(build(NORM), tmp_path / "m.onnx")
    result = inspect(tmp_path / "m.onnx")
    assert result.count() == {"decomposed RMSNorm": 1}
    data = json.loads(json.dumps(result.to_dict()))
    assert (data["norm_count"], data["form_count"], data["near_miss_count"]) == (1, {"decomposed RMSNorm": 1}, 0)
    assert (data["norms"][0]["n"], data["near_misses"]) == (8, [])


def test_a_missing_file(tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        inspect(tmp_path / "m.onnx")


@pytest.mark.parametrize("as_ir", [False, True], ids=["proto", "onnx-ir"])
@pytest.mark.parametrize("nodes_too", [False, True], ids=["import", "import and nodes"])
def test_the_alias_of_the_default_domain(build, as_ir, nodes_too):
    """`ai.onnx` and the empty string name one domain, also in a model that comes from no file."""
    proto = build(NORM)
    proto.opset_import[0].domain = "ai.onnx"
    for node in proto.graph.node:
        node.domain = "ai.onnx" if nodes_too else ""
    model = ir.from_proto(proto) if as_ir else proto
    assert len(inspect(model).norms) == 1
    fused = fuse(model)
    assert len(fused.norms) == 1
    assert fused.model.opset_imports[""] == 18
    if as_ir:
        assert "" not in model.opset_imports  # what is given is not changed
