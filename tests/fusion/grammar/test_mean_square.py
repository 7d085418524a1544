# ruff: noqa: E501 - a graph a line
import pytest

from rms_deploy.fusion.fuse import fuse

REST = "e = Add (m, eps) r = Sqrt (e) y = Div (x, r)"
SQUARE = "q = Mul (x, x)"


def axes(*values):
    return f"a = Constant <value_ints = [{', '.join(map(str, values))}]> ()"


MEANS = {
    "mean": f"{SQUARE} m = ReduceMean (q, last)",
    "positive axis": f"{SQUARE} {axes(2)} m = ReduceMean (q, a)",
    "explicit keepdims": f"{SQUARE} m = ReduceMean <keepdims = 1> (q, last)",
    "dropped and put back": f"{SQUARE} d = ReduceMean <keepdims = 0> (q, last) m = Unsqueeze (d, last)",
    "put back under another name": f"{SQUARE} {axes(2)} d = ReduceMean <keepdims = 0> (q, last) m = Unsqueeze (d, a)",
    "sum / n": f"{SQUARE} t = ReduceSum (q, last) m = Div (t, eight)",
    "sum * 1/n": f"{SQUARE} t = ReduceSum (q, last) m = Mul (t, eighth)",
    "1/n * sum": f"{SQUARE} t = ReduceSum (q, last) m = Mul (eighth, t)",
    "sum of squares": "t = ReduceSumSquare (x, last) m = Div (t, eight)",
    "n from the shape": f"""{SQUARE} t = ReduceSum (q, last)
        h = Shape (scale) i = Constant <value = int64 {{0}}> () g = Gather (h, i) f = Cast <to = 1> (g) m = Div (t, f)""",
    "axes from Range": f"""{SQUARE} h = Shape (x) k = Size (h) u = Constant <value = int64 {{1}}> () v = Sub (k, u)
        a = Range (v, k, u) m = ReduceMean (q, a)""",
}


@pytest.mark.parametrize("mean", MEANS.values(), ids=MEANS)
def test_matches(mean, build, check):
    (norm,) = check(build(f"{mean} {REST}")).norms
    assert (norm.axes, norm.n) == ((-1,), 8)


@pytest.mark.parametrize("axis", [64, -65, 2**31])
def test_an_axis_that_no_tensor_has(axis, build):
    body = f"f = local.F (x) s = Mul (f, f) {axes(axis)} m = ReduceMean (s, a) e = Add (m, eps) r = Sqrt (e) y = Div (f, r)"
    model = build(body)
    model.opset_import.add(domain="local", version=1)
    result = fuse(model)
    assert not result.norms
    assert [miss.reason for miss in result.near_misses] == [f"the axes [{axis}] are out of range for any rank"]


def test_axes_as_attribute(build, check):
    check(build(f"{SQUARE} m = ReduceMean <axes = [-1]> (q) {REST}", opset=13))


@pytest.mark.parametrize(
    ("given", "block", "n"),
    [((1,), (1,), 6), ((-3,), (1,), 6), ((2, 3), (-2, -1), 28), ((-1, 2, 1), (-3, -2, -1), 168), ((1, 2), (1, 2), 24)],
)
def test_blocks_of_axes(given, block, n, build, check):
    x = {"inputs": "float[b,6,4,7] x", "outputs": "float[b,6,4,7] y"}
    (norm,) = check(build(f"{SQUARE} {axes(*given)} m = ReduceMean (q, a) {REST}", **x)).norms
    assert (norm.axes, norm.n) == (block, n)


@pytest.mark.parametrize("reduction", ["ReduceMean (q)", "ReduceMean <keepdims = 0> (q)"])
def test_all_axes(reduction, build, check):
    (norm,) = check(build(f"{SQUARE} m = {reduction} {REST}")).norms
    assert norm.axes == (-3, -2, -1)


def test_leading_axes_may_be_dropped(build, check):
    body = f"{SQUARE} {axes(0)} m = ReduceMean <keepdims = 0> (q, a) {REST}"
    (norm,) = check(build(body, inputs="float[4,8] x", outputs="float[4,8] y")).norms
    assert norm.axes == (0,)


def test_nothing_is_reduced_by_an_empty_list_of_axes(build):
    body = f"{SQUARE} a = Constant <value = int64[0] {{}}> () m = ReduceMean <noop_with_empty_axes = 1> (q, a) {REST}"
    result = fuse(build(body))
    assert not result.norms
    assert not result.near_misses


NEAR_MISSES = {
    "axes not contiguous": (f"{SQUARE} {axes(0, 2)} m = ReduceMean (q, a)", "axes", "not one contiguous block"),
    "axes computed": (
        f"{SQUARE} k = ReduceMax <keepdims = 1> (i) a = Cast <to = 7> (k) m = ReduceMean (q, a)",
        "axes",
        "not constant",
    ),
    "sum / another number": (
        f"{SQUARE} t = ReduceSum (q, last) m = Div (t, three)",
        "mean_square",
        "scaled by 3, not 8",
    ),
    "sum * n": (f"{SQUARE} t = ReduceSum (q, last) m = Mul (t, eight)", "mean_square", "scaled by 8, not 0.125"),
    "sum / a per-channel number": (f"{SQUARE} t = ReduceSum (q, last) m = Div (t, scale)", "mean_square", "no scalar"),
    "sum": (f"{SQUARE} t = ReduceSum (q, last) s0 = Sqrt (t) m = Mul (s0, s0)", "mean_square", "L2 norm"),
    "another tensor subtracted": (
        f"{SQUARE} t = ReduceMean (q, last) c = ReduceMax (x, last) m = Sub (t, c)",
        "mean_square",
        "something is subtracted",
    ),
    "put back elsewhere": (
        f"{SQUARE} {axes(1)} d = ReduceMean <keepdims = 0> (q, last) m = Unsqueeze (d, a)",
        "mean_square",
        "are put back",
    ),
    "dropped": (f"{SQUARE} m = ReduceMean <keepdims = 0> (q, last)", "normed", "keepdims = 0"),
    "another axis dropped": (f"{SQUARE} {axes(1)} m = ReduceMean <keepdims = 0> (q, a)", "normed", "keepdims = 0"),
}


@pytest.mark.parametrize(("mean", "piece", "reason"), NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(mean, piece, reason, build, near_miss):
    shape = "[8,8,8]" if "keepdims = 0" in mean else "[b,s,8]"
    inputs = f"float{shape} x" + (", int64[2] i" if "(i)" in mean else "")
    near_miss(build(f"{mean} {REST}", inputs=inputs, outputs="float[?,?,?] y"), piece=piece, reason=reason)


def test_a_mean_over_an_axis_of_unknown_size_matches(build, check):
    (norm,) = check(
        build(f"{SQUARE} m = ReduceMean (q, last) {REST}", inputs="float[b,s,h] x", outputs="float[b,s,h] y")
    ).norms
    assert norm.n is None


@pytest.mark.parametrize(("dtype", "name"), [("float16", "float16"), ("bfloat16", "bfloat16")])
def test_squares_of_half_precision_are_near_misses(dtype, name, build, near_miss):
    body = f"{SQUARE} t = ReduceMean (q, last) m = Cast <to = 1> (t) w = Cast <to = 1> (x) e = Add (m, eps) r = Sqrt (e) y = Div (w, r)"
    near_miss(
        build(body, inputs=f"{dtype}[b,s,8] x"),
        piece="casts",
        reason=f"squared in {name}; the op computes in float32, which would change",
    )


def test_squares_of_half_precision_averaged_in_float32_are_near_misses(build, near_miss):
    body = f"{SQUARE} p = Cast <to = 1> (q) m = ReduceMean (p, last) w = Cast <to = 1> (x) e = Add (m, eps) r = Sqrt (e) y = Div (w, r)"
    near_miss(build(body, inputs="float16[b,s,8] x"), piece="casts", reason="squared in float16")


def test_a_model_in_float64_is_a_near_miss(build, near_miss):
    body = "q = Mul (x, x) m = ReduceMean (q, last) r = Sqrt (m) y = Div (x, r)"
    model = build(body, inputs="double[b,s,8] x", outputs="double[b,s,8] y")
    near_miss(model, piece="casts", reason="squared in double")


def test_squares_of_half_precision_may_be_allowed(build):
    body = f"{SQUARE} m = ReduceMean (q, last) h = Constant <value = float16 {{14131}}> () e = Add (m, h) r = Sqrt (e) y = Div (x, r)"
    (norm,) = fuse(build(body, inputs="float16[b,s,8] x", outputs="float16[b,s,8] y"), allow_precision_gain=True).norms
    assert (norm.dtype, norm.note[:34]) == ("float16", "precision gained: x is squared in ")


def test_lp_normalization_alone_is_no_near_miss(build):
    result = fuse(build("y = LpNormalization (x)"))
    assert not result.norms
    assert not result.near_misses


SHAPED = {
    "to a constant shape": "c = Constant <value_ints = [0, -1, 1]> () m = Reshape (d, c)",
    "to the shape of another reduction": "o = ReduceMax (x, last) h = Shape (o) m = Reshape (d, h)",
}


@pytest.mark.parametrize("shaped", SHAPED.values(), ids=SHAPED)
def test_put_back_by_reshape(shaped, build, check):
    body = f"{SQUARE} d = ReduceMean <keepdims = 0> (q, last) {shaped} {REST}"
    check(build(body, inputs="float[3,5,8] x", outputs="float[3,5,8] y"))


def test_put_back_elsewhere_by_reshape(build, near_miss):
    body = f"{SQUARE} d = ReduceMean <keepdims = 0> (q, last) c = Constant <value_ints = [1, 8, 8]> () m = Reshape (d, c) {REST}"
    near_miss(build(body, inputs="float[8,8,8] x", outputs="float[8,8,8] y"), piece="mean_square", reason="is reshaped")
