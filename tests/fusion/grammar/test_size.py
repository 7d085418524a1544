# ruff: noqa: E501 - a graph a line
"""The number of elements: a constant, or read from the shape of x, to the power that is missing."""

import pytest

REST = "e = Add (m, eps) r = Sqrt (e) y = Div (x, r)"
SQUARE = "q = Mul (x, x)"


def test_a_sum_over_an_axis_of_unknown_size_is_a_near_miss(build, near_miss):
    body = f"{SQUARE} t = ReduceSum (q, last) m = Div (t, eight) {REST}"
    near_miss(
        build(body, inputs="float[b,s,h] x", outputs="float[b,s,h] y"),
        piece="mean_square",
        reason="the size of the axes is not static",
    )


N = "h = Shape (x) i = Constant <value = int64 {-1}> () g = Gather (h, i) f = Cast <to = 1> (g)"


DYNAMIC = {
    "sum / n": f"{SQUARE} {N} t = ReduceSum (q, last) m = Div (t, f) {REST}",
    "sum * 1 / n": f"{SQUARE} {N} t = ReduceSum (q, last) u = Reciprocal (f) m = Mul (u, t) {REST}",
    "n of the square": f"{SQUARE} {N.replace('(x)', '(q)')} t = ReduceSum (q, last) m = Div (t, f) {REST}",
    "Shape with a start": f"{SQUARE} h = Shape <start = -1> (x) f = Cast <to = 1> (h) t = ReduceSum (q, last) m = Div (t, f) {REST}",
    "sqrt(n)": f"{N} k = Sqrt (f) l = ReduceL2 (x, last) r = Div (l, k) e = Add (r, eps) y = Div (x, e)",
    "F.normalize * sqrt(n)": f"{N} k = Sqrt (f) l = ReduceL2 (x, last) n = Div (x, l) y = Mul (n, k)",
}


@pytest.mark.parametrize("body", DYNAMIC.values(), ids=DYNAMIC)
def test_n_read_from_the_shape_when_the_model_runs(body, build, check, feeds_of):
    model = build(body, inputs="float[b,s,h] x", outputs="float[b,s,h] y")
    feeds = feeds_of(model)
    feeds["x"] += (feeds["x"] == 0) * 0.01
    (norm,) = check(model, feeds=feeds).norms
    assert norm.n is None


@pytest.mark.parametrize("which", ["{0}", "{1}"])
def test_another_dim_is_not_n(which, build, near_miss):
    body = f"{SQUARE} {N.replace('{-1}', which)} t = ReduceSum (q, last) m = Div (t, f) {REST}"
    near_miss(
        build(body, inputs="float[b,s,h] x", outputs="float[b,s,h] y"), piece="mean_square", reason="not constant"
    )


ROOT8 = "k = Constant <value = float {2.8284271}> () j = Constant <value = float {0.35355338}> ()"


L2 = {
    "(L2)^2 / n": "l = ReduceL2 (x, last) t = Pow (l, two) m = Div (t, eight) e = Add (m, eps) r = Sqrt (e) y = Div (x, r)",
    "L2 * L2 / n": "l = ReduceL2 (x, last) t = Mul (l, l) m = Div (t, eight) e = Add (m, eps) r = Sqrt (e) y = Div (x, r)",
    "(L2 * n^-0.5)^2": f"{ROOT8} l = ReduceL2 (x, last) t = Mul (l, j) m = Mul (t, t) e = Add (m, eps) r = Sqrt (e) y = Div (x, r)",
    "sum of squares, epsilon, / n": "t = ReduceSumSquare (x, last) e = Add (t, eps) m = Div (e, eight) r = Sqrt (m) y = Div (x, r)",
    "L2 / sqrt(n) + eps": f"{ROOT8} l = ReduceL2 (x, last) r = Div (l, k) e = Add (r, eps) y = Div (x, e)",
    "F.normalize * sqrt(n)": f"{ROOT8} l = ReduceL2 (x, last) f = Clip (l, eps) n = Div (x, f) y = Mul (n, k)",
    "F.normalize, expanded": f"{ROOT8} l = ReduceL2 (x, last) f = Max (l, eps) h = Shape (x) o = Expand (f, h) n = Div (x, o) y = Mul (n, k)",
    "F.normalize * g * sqrt(n)": f"{ROOT8} l = ReduceL2 (x, last) f = Clip (l, eps) n = Div (x, f) g = Mul (n, scale) y = Mul (g, k)",
    "x * sqrt(n) / L2": f"{ROOT8} l = ReduceL2 (x, last) f = Clip (l, eps) g = Mul (x, k) y = Div (g, f)",
    "F.normalize / n^-0.5": f"{ROOT8} l = ReduceL2 (x, last) f = Clip (l, eps) n = Div (x, f) y = Div (n, j)",
    "LpNormalization": f"{ROOT8} n = LpNormalization (x) y = Mul (n, k)",
    "Einsum": 't = Einsum <equation = "bsh,bsh->bs"> (x, x) u = Unsqueeze (t, last) m = Div (u, eight) e = Add (m, eps) r = Sqrt (e) y = Div (x, r)',
    "Einsum of an ellipsis": 't = Einsum <equation = "...h,...h->..."> (x, x) u = Unsqueeze (t, last) m = Div (u, eight) e = Add (m, eps) r = Sqrt (e) y = Div (x, r)',
}


@pytest.mark.parametrize("body", L2.values(), ids=L2)
def test_root_of_the_sum_of_squares(body, build, check):
    result = check(build(body))
    assert [node.op_type for node in result.model.graph if node.op_type != "Constant"] == ["RMSNorm"]


def test_constants_of_the_sum_are_divided_by_n(build, check):
    (norm,) = check(build(L2["sum of squares, epsilon, / n"])).norms
    assert norm.epsilon == pytest.approx(3e-4 / 8)
    (norm,) = check(build(L2["F.normalize * sqrt(n)"])).norms
    assert norm.rms_min == pytest.approx(3e-4 / 8**0.5)


@pytest.mark.parametrize("factor", ["eight", "three", "scale"])
def test_an_l2_norm_is_no_rms_norm(factor, build, near_miss):
    body = f"l = ReduceL2 (x, last) f = Clip (l, eps) n = Div (x, f) y = Mul (n, {factor})"
    near_miss(build(body), piece="mean_square", reason="an L2 norm")


FIRST = "z0 = Constant <value_ints = [0]> () p = Constant <value_ints = [2]> () f = Slice (x, z0, p, last)"


PART = "l = ReduceL2 (f, last) g = Max (l, eps) n = Div (x, g) y = Mul (n, c)"


def test_the_first_part_over_its_l2_norm(build, check):
    """n is what the sum is over, not what is divided."""
    (norm,) = check(build(f"{FIRST} c = Constant <value = float {{1.4142135}}> () {PART}")).norms
    assert norm.partial_size == 2
    assert norm.rms_min == pytest.approx(3e-4 / 2**0.5)


def test_the_first_part_times_the_root_of_all(build, near_miss):
    body = f"{FIRST} c = Constant <value = float {{2.8284271}}> () {PART}"
    near_miss(build(body), piece="mean_square", reason="an L2 norm")


def test_n_of_a_higher_rank_is_no_n(near_miss, build):
    """It would make the rank of the result grow."""
    body = """q = Mul (x, x) t = ReduceSum (q, last) s = Shape (x) i = Constant <value = int64 {2}> () g = Gather (s, i)
        f = Cast <to = 1> (g) z = Constant <value_ints = [0, 1, 2, 3]> () u = Unsqueeze (f, z) m = Div (t, u)
        e = Add (m, eps) r = Sqrt (e) y = Div (x, r)"""
    model = build(body, outputs="float[1,b,s,8] y")
    near_miss(model, piece="mean_square", reason="the number of elements is not constant")


@pytest.mark.parametrize("mean", ["m = Div (t, eight)", "m = Mul (t, eighth)"])
def test_axes_without_elements_have_no_mean_by_a_constant(mean, near_miss, build):
    body = f"q = Mul (x, x) t = ReduceSum (q, last) {mean} e = Add (m, eps) r = Sqrt (e) y = Div (x, r)"
    model = build(body, inputs="float[b,s,0] x", outputs="float[b,s,0] y")
    near_miss(model, piece="mean_square", reason="the axes have no elements")


def test_an_epsilon_on_a_sum_of_no_elements(near_miss, build):
    body = """q = Mul (x, x) t = ReduceSum (q, last) a = Add (t, eps) s = Shape (x) i = Constant <value = int64 {2}> ()
        g = Gather (s, i) f = Cast <to = 1> (g) m = Div (a, f) r = Sqrt (m) y = Div (x, r)"""
    model = build(body, inputs="float[b,s,0] x", outputs="float[b,s,0] y")
    near_miss(model, piece="mean_square", reason="the axes have no elements")
