# ruff: noqa: E501 - a graph a line
"""What `fuse` and `unfuse` write loads wherever the original loaded, and a second run writes the same bytes.

Each graph has something that broke once: no names, names of ours, bodies and functions that import nothing, old opsets
and IR versions, scales of one element, axes without elements.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest

from rms_deploy import onnxruntime_library
from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.unfuse import unfuse
from rms_deploy.ops import schemas
from rms_deploy.ops.forms import NormForm
from rms_deploy.ops.functions import attach_functions
from rms_deploy.ops.nodes import norm_nodes

OPSET_18 = '<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1, "local" : 1]>'
CONSTANTS = "float eps = {1e-5}, int64[1] last = {-1}, float[8] w = {1,2,3,4,5,6,7,8}"
SKIP = "com.microsoft.SkipSimplifiedLayerNormalization <epsilon = 1e-5>"


def norm(x, y, p, scale="w"):
    """The text of a norm of `x` whose values begin with `p`."""
    end = f"{p}n = Div ({x}, {p}r) {y} = Mul ({p}n, {scale})" if scale else f"{y} = Div ({x}, {p}r)"
    return f"{p}q = Mul ({x}, {x}) {p}m = ReduceMean ({p}q, last) {p}e = Add ({p}m, eps) {p}r = Sqrt ({p}e) {end}"


def graph(body, inputs="float[b,8] x, float[b,8] r", outputs="float[b,8] y", constants=CONSTANTS, header=OPSET_18):
    return f"{header} g ({inputs}) => ({outputs}) <{constants}> {{ {body} }}"


def old(opset, ir_version, body, inputs, constants, outputs="float[2,8] y"):
    """Of an opset whose ReduceMean takes its axes as an attribute."""
    header = f'<ir_version: {ir_version}, opset_import: ["" : {opset}]>'
    return graph(body.replace("(q, last)", "<axes = [-1]> (q)"), inputs, outputs, constants, header)


LAYER = '<domain: "local", opset_import: ["" : 18]> Layer (a, b, g) => (o) { eps = Constant <value_float = 1e-5> () last = Constant <value_ints = [-1]> () BODY }'

GRAPHS = {
    "residual norms without names": graph(
        f"s = Add (x, r) {norm('s', 'a', 'a')} t = Add (s, a) {norm('t', 'y', 'b')}", outputs="float[b,8] y, float[b,8] t"
    ),
    "skip norms without names": graph(
        f'a, "", "", s = {SKIP} (x, r, w) y, "", "", t = {SKIP} (s, a, w)',
        "float[b,s,8] x, float[b,s,8] r",
        "float[b,s,8] y, float[b,s,8] t",
    ),
    "skip norms with bias, without names": graph(
        f'a, "", "", s = {SKIP} (x, r, w, w) y, "", "", t = {SKIP} (s, a, w, w)',
        "float[b,s,8] x, float[b,s,8] r",
        "float[b,s,8] y, float[b,s,8] t",
    ),
    "names of our body": graph(
        f"Two = Exp (x) Normed = Neg (Two) Root0 = Add (Normed, r) {norm('Root0', 'Square', 'a')} y = Add (Square, Two)"
    ),
    "val_0 in a body": graph(
        f"{norm('x', 'a', 'a', '')} y = If (c) <then_branch = t () => (float[b,8] ty) {{ val_0 = Neg (a) ty = Exp (val_0) }}, else_branch = e () => (float[b,8] ey) {{ val_1 = Exp (a) ey = Neg (val_1) }}>",
        "float[b,8] x, bool c",
    ),
    "a norm in a branch": graph(
        f"y = If (c) <then_branch = t () => (float[b,8] ty) {{ {norm('x', 'ty', 't')} }}, else_branch = e () => (float[b,8] ey) {{ ey = Neg (x) }}>",
        "float[b,8] x, bool c",
    ),
    "a name that a branch has for another value": graph(
        f"u = If (c) <then_branch = t () => (float[b,8] ty) {{ g = Neg (x) ty = Mul (x, g) }}, else_branch = e () => (float[b,8] ey) {{ ey = Neg (x) }}> g = Neg (w) {norm('u', 'y', 'p', 'g')}",
        "float[b,8] x, bool c",
    ),
    "a norm in a function": graph("y = local.Layer (x, r, w)") + LAYER.replace("BODY", norm("a", "o", "z", "g")),
    "a residual norm in a function": graph("y = local.Layer (x, r, w)")
    + LAYER.replace("BODY", f"zs = Add (a, b) {norm('zs', 'o', 'z', 'g')}"),
    "a function whose output nothing reads": graph("u = local.Layer (x, r, w) y = Neg (x)")
    + LAYER.replace("BODY", norm("a", "o", "z", "g")),
    "IR 3, no scale": old(
        13, 3, norm("x", "y", "", ""), "float[2,8] x, float eps", "float eps = {1e-5}"
    ),
    "opset 7, a scalar scale": old(
        7, 3, norm("x", "y", "", "k"), "float[2,8] x, float eps, float k", "float eps = {1e-5}, float k = {2}"
    ),
    "opset 8, a scalar scale": old(
        8, 3, norm("x", "y", "", "k"), "float[2,8] x, float eps, float k", "float eps = {1e-5}, float k = {2}"
    ),
    "opset 8, a scale for some of the block": old(
        8,
        3,
        "q = Mul (x, x) m = ReduceMean <axes = [1, 2]> (q) e = Add (m, eps) rt = Sqrt (e) n = Div (x, rt) y = Mul (n, k)",
        "float[2,4,2] x, float eps, float[2] k",
        "float eps = {1e-5}, float[2] k = {2, 3}",
        "float[2,4,2] y",
    ),
    "bfloat16 without scale": graph(
        f"u = Cast <to = 1> (x) {norm('u', 'v', '', '')} y = Cast <to = 16> (v)",
        "bfloat16[b,8] x",
        "bfloat16[b,8] y",
    ),
    "one dim, a scalar scale": graph(norm("x", "y", "", "eps"), "float[8] x", "float[8] y"),
    "one dim, a scalar scale beside a vector": graph(
        f"{norm('x', 'a', 'a', 'eps')} {norm('a', 'y', 'b')}", "float[8] x", "float[8] y"
    ),
    "one dim of unknown size, without scale": graph(norm("x", "y", "", ""), "float[n] x", "float[n] y"),
    "one dim that nothing proves, a scalar scale": graph(
        f"i = Identity (last) s = ReduceSum (x, i) h = Mul (x, s) {norm('h', 'y', '', 'eps')}", "float[n] x", "float[n] y"
    ),
    "a scale of one element": graph(
        norm("x", "y", "a", "one"), constants="float eps = {1e-5}, int64[1] last = {-1}, float[1] one = {3}"
    ),
    "a scale of one element beside a vector": graph(
        f"{norm('x', 'a', 'a', 'one')} {norm('a', 'y', 'b')}", constants=f"{CONSTANTS}, float[1] one = {{3}}"
    ),
    "an axis without elements": graph(norm("x", "y", "", ""), "float[2,0] x", "float[2,0] y"),
    "a unit scale of three": graph(
        f"{norm('x', 'y', 'a', 'rms_deploy_unit_scale')} {norm('y', 'z', 'b', '')}",
        outputs="float[b,8] y, float[b,8] z",
        constants=f"{CONSTANTS}, float rms_deploy_unit_scale = {{3}}",
    ),
    "a unit scale of integers": graph(
        f"k = Cast <to = 1> (rms_deploy_unit_scale) {norm('x', 'a', 'a', '')} y = Mul (a, k)",
        constants=f"{CONSTANTS}, int64 rms_deploy_unit_scale = {{1}}",
    ),
}  # fmt: skip

VERSION = tuple(int(part) for part in ort.__version__.split(".")[:2])
NOT_BEFORE_1_24 = {
    ("opset 7, a scalar scale", NormForm.STANDARD): "a scalar scale",
    ("opset 8, a scalar scale", NormForm.STANDARD): "a scalar scale",
    ("one dim of unknown size, without scale", NormForm.STANDARD): "a scalar scale",
    ("one dim that nothing proves, a scalar scale", NormForm.STANDARD): "a scalar scale",
    ("a unit scale of integers", NormForm.STANDARD): "a scalar scale",
    ("bfloat16 without scale", NormForm.ONNXRUNTIME): "bfloat16",
}
"""What ONNX Runtime's own norms did not take before 1.24."""


@pytest.fixture(params=GRAPHS)
def name(request):
    return request.param


@pytest.fixture
def path(name, tmp_path):
    model = onnx.parser.parse_model(GRAPHS[name])
    schemas.register()
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def session(path, *, library=False):
    """Optimised, as users load it."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if library:
        options.register_custom_ops_library(str(onnxruntime_library()))
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(path, **options):
    loaded = session(path, **options)
    generator = np.random.default_rng(0)
    feeds = {}
    for value in loaded.get_inputs():
        if value.type == "tensor(bfloat16)":
            return None  # which ONNX Runtime's Python interface does not take
        shape = [dim if isinstance(dim, int) else 3 for dim in value.shape]
        feeds[value.name] = (
            np.array(True) if value.type == "tensor(bool)" else generator.standard_normal(shape).astype(np.float32)
        )
    return loaded.run(None, feeds)


def assert_same(path, original, **options):
    got, expected = run(path, **options), run(original)
    for a, e in zip(got or (), expected or (), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6)


def is_known_to_onnx(path):
    return b"SimplifiedLayerNormalization" not in path.read_bytes()


@pytest.mark.parametrize("functions", [True, False])
@pytest.mark.parametrize("target", NormForm)
def test_what_fuse_writes(path, name, target, functions, tmp_path):
    if VERSION < (1, 24) and (name, target) in NOT_BEFORE_1_24:
        pytest.skip(f"this ONNX Runtime's norms do not take {NOT_BEFORE_1_24[name, target]}")
    out, again = tmp_path / "out.onnx", tmp_path / "again.onnx"
    fuse(path, out, target=target, functions=functions, verify=False)
    if is_known_to_onnx(out):
        onnx.checker.check_model(out, full_check=True)
    if target is not NormForm.TENSORRT_PLUGIN:
        assert_same(out, path, library=True)
        if b"rms_deploy" not in out.read_bytes() or functions:
            assert_same(out, path)
    assert not fuse(out, again, target=target, functions=functions, verify=False).norms
    assert again.read_bytes() == out.read_bytes()


def test_what_unfuse_writes(path, tmp_path):
    fused, out, again = tmp_path / "fused.onnx", tmp_path / "out.onnx", tmp_path / "again.onnx"
    fuse(path, fused, verify=False)
    unfuse(fused, out)
    if is_known_to_onnx(out):
        onnx.checker.check_model(out, full_check=True)
    assert_same(out, path)
    unfuse(out, again)
    assert again.read_bytes() == out.read_bytes()


def test_a_given_proto_stays_what_it_was(name):
    model = onnx.parser.parse_model(GRAPHS[name])
    before = model.SerializeToString(deterministic=True)
    for target in NormForm:
        fuse(model, target=target, verify=False)
        assert model.SerializeToString(deterministic=True) == before, target


CALLED = """<ir_version: 10, opset_import: ["" : 20, "rms_deploy" : 1, "local" : 1]>
g (float[b,8] x, float[b,8] r, bool c) => (float[b,8] y, float[b,8] t)
<float[8] w = {1, 2, 3, 4, 5, 6, 7, 8}, float[8] v = {8, 7, 6, 5, 4, 3, 2, 1}> {
    a = local.f (x, w, v)
    q, s = rms_deploy.AddRMSNormQuantize <y_scale = 0.05, output_dtype = 3> (a, r, w)
    k = Cast <to = 1> (q)
    y = If (c) <
        then_branch = one () => (float[b,8] p) { p, u = rms_deploy.AddFloat32RMSNorm (k, s, w) },
        else_branch = two () => (float[b,8] d) { d, i = rms_deploy.AddRMSNormShift (k, s, w, v) }>
    t = Neg (s)
}
<opset_import: ["" : 20, "rms_deploy" : 1], domain: "local"> f (x, w, v) => (o) {
    n = rms_deploy.RMSNormShift (x, w, v)
    z = rms_deploy.RMSNormQuantize <y_scale = 0.1, output_dtype = 17> (n, w)
    o = Cast <to = 1> (z)
}"""
"""Norms without names, in a branch and in a function, one behind the other."""


@pytest.mark.parametrize("target", NormForm)
def test_what_stands_around_norms(target, tmp_path):
    """The original has the bodies."""
    if VERSION < (1, 24) and target is NormForm.STANDARD:
        pytest.skip("this ONNX Runtime has no QuantizeLinear of opset 23")
    path, out, again = (tmp_path / f"{name}.onnx" for name in ("model", "out", "again"))
    given = ir.from_proto(onnx.parser.parse_model(CALLED))
    attach_functions(given)
    onnx.save(ir.to_proto(given), path)
    fuse(path, out, target=target, verify=False)
    if is_known_to_onnx(out):
        onnx.checker.check_model(out, full_check=True)
    if target is not NormForm.TENSORRT_PLUGIN:
        assert_same(out, path, library=True)
        assert_same(out, path)
    assert len(list(norm_nodes(ir.load(out)))) == (5 if target is NormForm.FUSED else 0)
    assert not fuse(out, again, target=target, verify=False).norms
    assert again.read_bytes() == out.read_bytes()
    unfuse(out, again)
    assert_same(again, path)
