# ruff: noqa: E501 - a graph a line
import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse

UP = "w = Cast <to = 1> (x)"
CORE = "q = Mul (w, w) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) i = Reciprocal (r) n = Mul (w, i)"
HALF = [("float16", 10), ("bfloat16", 16)]


@pytest.fixture(params=HALF, ids=["float16", "bfloat16"])
def half(request):
    return request.param


def graph(build, half, body, *, out="T"):
    name, code = half
    body = body.replace("DOWN", f"Cast <to = {code}>")
    output = (name if out == "T" else out) + "[b,s,8] y"
    return build(body, inputs=f"{name}[b,s,8] x, {name}[8] g, float[8] f", outputs=output)


ORDERS = {
    "Llama: round, then scale": (f"{UP} {CORE} h = DOWN (n) y = Mul (g, h)", "before scale", "T"),
    "Gemma: scale in float32, round once": (f"{UP} {CORE} o = Mul (n, f) y = DOWN (o)", "once", "float32"),
    "the scale cast up": (f"{UP} {CORE} u = Cast <to = 1> (g) o = Mul (n, u) y = DOWN (o)", "once", "T"),
    "1 + w in float32": (
        f"{UP} {CORE} u = Cast <to = 1> (g) p = Add (u, one) o = Mul (n, p) y = DOWN (o)",
        "once",
        "float32",
    ),
    "no scale": (f"{UP} {CORE} y = DOWN (n)", "once", "none"),
    "T5: x cast twice": (
        f"{UP} v = Cast <to = 1> (x) {CORE.replace('Mul (w, i)', 'Mul (v, i)')} h = DOWN (n) y = Mul (g, h)",
        "before scale",
        "T",
    ),
    "a cast to the own type": (f"{UP} {CORE} p = Cast <to = 1> (n) h = DOWN (p) y = Mul (g, h)", "before scale", "T"),
    "CastLike back": (f"{UP} {CORE} h = CastLike (n, x) y = Mul (g, h)", "before scale", "T"),
}


@pytest.mark.parametrize(("body", "rounding", "scale"), ORDERS.values(), ids=ORDERS)
def test_the_order_of_rounding_is_kept(body, rounding, scale, half, build, check):
    result = check(graph(build, half, body))
    (norm,) = result.norms
    assert (norm.dtype, norm.rounding) == (half[0], rounding)
    if scale != "none":
        assert norm.scale == f"{half[0] if scale == 'T' else scale}[8]"
    assert not [node for node in result.model.graph if node.op_type == "Cast" and node.inputs[0].name != "g"]


def test_the_two_orders_differ(half, build, run, feeds_of):
    """So that the tests above can fail."""
    llama, gemma = (graph(build, half, ORDERS[name][0]) for name in ("Llama: round, then scale", "the scale cast up"))
    feeds = feeds_of(llama)
    assert (run(llama, feeds)[0] != run(gemma, feeds)[0]).mean() > 0.02


def test_a_norm_that_ends_in_float32_is_one_of_float32(half, build, check):
    result = check(graph(build, half, f"{UP} {CORE} y = Mul (n, f)", out="float"))
    assert result.norms[0].dtype == "float32"
    assert [(node.op_type, node.inputs[0].name) for node in result.model.graph] == [("Cast", "x"), ("RMSNorm", "w")]


def test_a_norm_that_ends_in_the_other_half_type_is_one_of_float32(build, check):
    body = f"{UP} {CORE} o = Mul (n, f) y = Cast <to = 16> (o)"
    model = build(body, inputs="float16[b,s,8] x, float[8] f", outputs="bfloat16[b,s,8] y")
    result = check(model)
    assert result.norms[0].dtype == "float32"
    assert [node.op_type for node in result.model.graph] == ["Cast", "RMSNorm", "Cast"]


def test_rounded_and_scaled_in_float32_keeps_the_product(half, build, check):
    """x / rms rounded to half, then multiplied in float32: the op has no such order, its core has."""
    result = check(graph(build, half, f"{UP} {CORE} h = DOWN (n) k = Cast <to = 1> (h) y = Mul (k, f)", out="float"))
    assert [node.op_type for node in result.model.graph] == ["RMSNorm", "Cast", "Mul"]
    assert result.norms[0].dtype == half[0]


def test_both_a_rounded_and_an_unrounded_end(half, build, check):
    body = f"{UP} {CORE} y = DOWN (n) y2 = Mul (n, f)"
    name = half[0]
    model = build(
        body.replace("DOWN", f"Cast <to = {half[1]}>"),
        inputs=f"{name}[b,s,8] x, float[8] f",
        outputs=f"{name}[b,s,8] y, float[b,s,8] y2",
    )
    assert {norm.dtype for norm in check(model, norms=2).norms} == {name, "float32"}


LOSSES = {
    "the root rounded": (
        f"{UP} q = Mul (w, w) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) j = DOWN (r) y = Div (x, j)",
        "T",
    ),
    "the mean square rounded": (
        f"{UP} q = Mul (w, w) m = ReduceMean (q, last) j = DOWN (m) k = Cast <to = 1> (j) r = Sqrt (k) n = Div (w, r) y = DOWN (n)",
        "T",
    ),
}


@pytest.mark.parametrize(("body", "out"), LOSSES.values(), ids=LOSSES)
def test_statistics_in_a_half_type_are_near_misses(body, out, half, build, near_miss):
    near_miss(graph(build, half, body, out=out), piece="casts", reason="the statistics are cast to")


@pytest.mark.parametrize(("body", "out"), LOSSES.values(), ids=LOSSES)
def test_a_gain_of_precision_may_be_allowed_and_is_noted(body, out, half, build):
    result = fuse(graph(build, half, body, out=out), allow_precision_gain=True)
    (norm,) = result.norms
    assert norm.dtype == half[0]
    assert norm.note.startswith("precision gained: the statistics are cast to")


INVERSE = f"{UP} {CORE.replace('n = Mul (w, i)', 'j = DOWN (i)')}"

RECIPROCALS = {
    "no scale": (f"{INVERSE} y = Mul (x, j)", "none"),
    "no scale, the other way round": (f"{INVERSE} y = Mul (j, x)", "none"),
    "scaled": (f"{INVERSE} n = Mul (x, j) y = Mul (n, g)", "T"),
    "scaled, the other way round": (f"{INVERSE} n = Mul (x, j) y = Mul (g, n)", "T"),
    "CastLike": (f"{INVERSE.replace('DOWN (i)', 'CastLike (i, x)')} n = Mul (x, j) y = Mul (n, g)", "T"),
    "a cast to the own type": (f"{INVERSE} k = DOWN (j) n = Mul (x, k) y = Mul (n, g)", "T"),
    "a cast of x to the own type": (f"{INVERSE} k = DOWN (x) n = Mul (k, j) y = Mul (n, g)", "T"),
    "expanded": (f"{INVERSE} s = Shape (x) k = Expand (j, s) n = Mul (x, k) y = Mul (n, g)", "T"),
}


@pytest.mark.parametrize(("body", "scale"), RECIPROCALS.values(), ids=RECIPROCALS)
def test_a_rounded_reciprocal(body, scale, half, build, check, feeds_of, run):
    model = graph(build, half, body)
    result = check(model)
    (norm,) = result.norms
    assert (norm.kind, norm.dtype, norm.rounding) == ("RMSNormReciprocal", half[0], "reciprocal")
    assert norm.scale.startswith(half[0] if scale == "T" else "float32[]")
    assert [node.op_type for node in result.model.graph] == ["RMSNormReciprocal"]
    feeds = feeds_of(model)
    for original, fused in zip(run(model, feeds), run(ir.to_proto(result.model), feeds), strict=True):
        assert original.tobytes() == fused.tobytes()


def test_a_rounded_reciprocal_of_the_first_elements(half, build, check):
    model = build(
        "a = Constant <value_ints = [0]> () z = Constant <value_ints = [3]> () f = Slice (x, a, z, last) "
        f"v = Cast <to = 1> (f) {CORE.replace('n = Mul (w, i)', '').replace('Mul (w, w)', 'Mul (v, v)')} "
        f"j = Cast <to = {half[1]}> (i) y = Mul (x, j)",
        inputs=f"{half[0]}[b,s,8] x",
        outputs=f"{half[0]}[b,s,8] y",
    )
    (norm,) = check(model).norms
    assert (norm.kind, norm.partial_size) == ("PartialRMSNormReciprocal", 3)


def test_a_rounded_reciprocal_and_a_norm_of_one_mean_square(half, build, check):
    body = f"{UP} {CORE} j = DOWN (i) y = Mul (x, j) y2 = DOWN (n)".replace("DOWN", f"Cast <to = {half[1]}>")
    model = build(body, inputs=f"{half[0]}[b,s,8] x", outputs=f"{half[0]}[b,s,8] y, {half[0]}[b,s,8] y2")
    assert {norm.kind for norm in check(model, norms=2).norms} == {"RMSNorm", "RMSNormReciprocal"}


def test_a_rounded_reciprocal_that_is_scaled_in_float32_keeps_the_product(half, build, check):
    body = f"{INVERSE} n = Mul (x, j) k = Cast <to = 1> (n) y = Mul (k, f)"
    result = check(graph(build, half, body, out="float"))
    assert [node.op_type for node in result.model.graph] == ["RMSNormReciprocal", "Cast", "Mul"]


OTHERS = {
    "the scale is multiplied by it": f"{INVERSE} k = Mul (j, g) y = Mul (x, k)",
    "the scaled x is multiplied by it": f"{INVERSE} k = Mul (x, g) y = Mul (k, j)",
    "it is cast up again": f"{INVERSE} k = Cast <to = 1> (j) n = Mul (w, k) y = DOWN (n)",
}


@pytest.mark.parametrize("body", OTHERS.values(), ids=OTHERS)
def test_what_else_is_done_with_a_rounded_reciprocal_is_a_near_miss(body, half, build, near_miss):
    reason = f"1 / rms is rounded to {half[0]}, and something else than x is multiplied by it"
    near_miss(graph(build, half, body), piece="casts", reason=reason)
    result = fuse(graph(build, half, body), allow_precision_gain=True)
    assert [norm.kind for norm in result.norms] == ["RMSNorm"]
    assert result.norms[0].note.startswith(f"precision gained: {reason}")


DOUBLE = "d = Cast <to = 11> (x) q = Mul (d, d) m = ReduceMean (q, last) r = Sqrt (m)"


@pytest.mark.parametrize(
    "body",
    [
        f"{DOUBLE} n = Div (d, r) y = Cast <to = 1> (n)",
        f"{DOUBLE} s = Cast <to = 1> (r) y = Div (x, s)",
        f"{DOUBLE} n = Div (d, r) g = Cast <to = 11> (scale) o = Mul (n, g) y = Cast <to = 1> (o)",
    ],
    ids=["back after the norm", "back after the root", "scaled in float64"],
)
def test_float64_inside_a_float32_norm(body, build, check, feeds_of):
    model = build(body)
    feeds = feeds_of(model)
    feeds["x"] += (feeds["x"] == 0) * 0.01
    assert [node.op_type for node in check(model, feeds=feeds).model.graph] == ["RMSNorm"]


def test_the_root_in_float64_of_a_half_type(half, build, check):
    body = f"{UP} q = Mul (w, w) m = ReduceMean (q, last) j = Cast <to = 11> (m) e = Add (j, tiny) k = Sqrt (e) r = Cast <to = 1> (k) n = Div (w, r) y = DOWN (n)"
    check(graph(build, half, body.replace("e = Add (j, tiny)", "t = Cast <to = 11> (eps) e = Add (j, t)")))


def test_a_norm_that_ends_in_float64_is_a_near_miss(build, near_miss):
    near_miss(build(f"{DOUBLE} y = Div (d, r)", outputs="double[b,s,8] y"), piece="casts", reason="ends in float64")


EXPANDED = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e)"


@pytest.mark.parametrize("target", ["h = Shape (x)", "k = Neg (x) h = Shape (k)"])
def test_statistics_expanded_to_the_shape_of_x(target, build, check):
    check(build(f"{EXPANDED} {target} t = Expand (r, h) y = Div (x, t)"))


def test_statistics_expanded_to_another_shape_are_near_misses(build, near_miss):
    body = f"{EXPANDED} h = Shape (z) t = Expand (r, h) y = Div (x, t)"
    model = build(body, inputs="float[b,s,8] x, float[t,b,s,8] z", outputs="float[t,b,s,8] y")
    near_miss(model, piece="casts", reason="not proven to be that of x")


def test_a_scale_expanded_to_the_shape_of_x(build, check):
    result = check(build(f"{EXPANDED} n = Div (x, r) h = Shape (x) t = Expand (scale, h) y = Mul (n, t)"))
    assert [node.op_type for node in result.model.graph] == ["RMSNorm"]


def test_rounding_before_the_square_is_part_of_x(build, check):
    """float32 -> float16 -> float32: the norm is of the rounded x."""
    body = f"h = Cast <to = 10> (x) w = Cast <to = 1> (h) {CORE} y = Identity (n)"
    result = check(build(body))
    assert [node.op_type for node in result.model.graph] == ["Cast", "Cast", "RMSNorm"]
