# ruff: noqa: E501 - a graph a line
import onnx
import pytest

from rms_deploy.fusion.fuse import fuse

MEAN = "q = Mul (x, x) m = ReduceMean (q, last)"

ROOTS = {
    "Div by Sqrt": "e = Add (m, eps) r = Sqrt (e) y = Div (x, r)",
    "Div by Pow 0.5": "e = Add (m, eps) r = Pow (e, half) y = Div (x, r)",
    "Mul by Reciprocal": "e = Add (m, eps) r = Sqrt (e) i = Reciprocal (r) y = Mul (x, i)",
    "Reciprocal on the left": "e = Add (m, eps) r = Sqrt (e) i = Reciprocal (r) y = Mul (i, x)",
    "Mul by 1 / root": "e = Add (m, eps) r = Sqrt (e) i = Div (one, r) y = Mul (x, i)",
    "Mul by Pow -0.5": "e = Add (m, eps) i = Pow (e, minus_half) y = Mul (x, i)",
    "Mul by Pow -1": "e = Add (m, eps) r = Sqrt (e) i = Pow (r, minus_one) y = Mul (x, i)",
    "Reciprocal, then Sqrt": "e = Add (m, eps) j = Reciprocal (e) i = Sqrt (j) y = Mul (x, i)",
    "epsilon on the left": "e = Add (eps, m) r = Sqrt (e) y = Div (x, r)",
    "epsilon [1]": "e = Add (m, eps1) r = Sqrt (e) y = Div (x, r)",
    "epsilon [1,1,1]": "e = Add (m, eps111) r = Sqrt (e) y = Div (x, r)",
    "epsilon in a Constant": "c = Constant <value = float {3e-4}> () e = Add (m, c) r = Sqrt (e) y = Div (x, r)",
    "epsilon in value_float": "c = Constant <value_float = 3e-4> () e = Add (m, c) r = Sqrt (e) y = Div (x, r)",
    "epsilon cast": "c = Constant <value = double {3e-4}> () d = Cast <to = 1> (c) e = Add (m, d) r = Sqrt (e) y = Div (x, r)",
    "epsilon behind Identity": "c = Identity (eps) e = Add (m, c) r = Sqrt (e) y = Div (x, r)",
    "epsilon behind CastLike": "c = Constant <value = double {3e-4}> () d = CastLike (c, x) e = Add (m, d) r = Sqrt (e) y = Div (x, r)",
}


@pytest.mark.parametrize("root", ROOTS.values(), ids=ROOTS)
def test_matches(root, build, check):
    (norm,) = check(build(f"{MEAN} {root}")).norms
    assert norm.epsilon == pytest.approx(3e-4, rel=1e-7)
    assert (norm.rms_epsilon, norm.rms_min) == (0, 0)


def no_zero_row(feeds):
    feeds["x"] += (feeds["x"] == 0) * 0.01
    return feeds


def test_no_epsilon(build, check, feeds_of):
    model = build(f"{MEAN} r = Sqrt (m) y = Div (x, r)")
    (norm,) = check(model, feeds=no_zero_row(feeds_of(model))).norms
    assert norm.epsilon == 0


def test_epsilon_outside(build, check):
    (norm,) = check(build(f"{MEAN} r = Sqrt (m) e = Add (r, eps) y = Div (x, e)")).norms
    assert (norm.epsilon, norm.rms_epsilon) == (0, pytest.approx(3e-4))


def test_epsilon_inside_and_outside(build, check):
    (norm,) = check(build(f"{MEAN} d = Add (m, half) r = Sqrt (d) e = Add (r, eps) y = Div (x, e)")).norms
    assert (norm.epsilon, norm.rms_epsilon) == (0.5, pytest.approx(3e-4))


FLOORS = {
    "Max": "f = Max (r, floor) y = Div (x, f)",
    "Max, floor first": "f = Max (floor, r) y = Div (x, f)",
    "Clip": "f = Clip (r, floor) y = Div (x, f)",
}


@pytest.mark.parametrize("floor", FLOORS.values(), ids=FLOORS)
def test_floor_of_the_root(floor, build, check):
    (norm,) = check(build(f"{MEAN} e = Add (m, eps) r = Sqrt (e) {floor}")).norms
    assert (norm.epsilon, norm.rms_min) == (pytest.approx(3e-4), pytest.approx(0.3))


def test_floor_of_the_mean_square(build, check):
    (norm,) = check(build(f"{MEAN} f = Max (m, floor) r = Sqrt (f) y = Div (x, r)")).norms
    assert norm.rms_min == pytest.approx(0.3**0.5)


def test_epsilon_is_exact_in_every_type(build, check):
    """The constants are bit patterns: what 1e-6 is in bfloat16, and the smallest subnormals of both half types."""
    for constant, expected in (
        ("bfloat16 {13702}", 134 * 2.0**-27),
        ("bfloat16 {1}", 2.0**-133),
        ("float16 {1}", 2.0**-24),
    ):
        body = f"c = Constant <value = {constant}> () d = Cast <to = 1> (c) e = Add (m, d) r = Sqrt (e) y = Div (x, r)"
        (norm,) = check(build(f"{MEAN} {body}")).norms
        assert norm.epsilon == expected


DIVIDE = "r = Sqrt (e) y = Div (x, r)"
X = "float[b,s,8] x"
NEAR_MISSES = {
    "epsilon a graph input": (f"e = Add (m, z) {DIVIDE}", f"{X}, float z", "epsilon", "is a graph input (z)"),
    "epsilon per channel": (f"e = Add (m, scale) {DIVIDE}", X, "epsilon", "no scalar: it has the shape [8]"),
    "epsilon per row": (f"c = ReduceMax (x, last) e = Add (m, c) {DIVIDE}", X, "epsilon", "is not constant (c"),
    "epsilon negative": (f"c = Neg (eps) e = Add (m, c) {DIVIDE}", X, "epsilon", "not negative"),
    "epsilon infinite": (
        f"z = Constant <value = float {{0}}> () c = Div (one, z) e = Add (m, c) {DIVIDE}",
        X,
        "epsilon",
        "finite",
    ),
    "epsilon twice": (f"d = Add (m, eps) e = Add (d, eps) {DIVIDE}", X, "epsilon", "added twice"),
    "outer epsilon an input": (
        "r = Sqrt (m) e = Add (r, z) y = Div (x, e)",
        f"{X}, float z",
        "rms_epsilon",
        "is a graph input",
    ),
    "epsilon after the floor": (
        "r = Sqrt (m) f = Max (r, floor) e = Add (f, eps) y = Div (x, e)",
        X,
        "rms_epsilon",
        "after the floor",
    ),
    "floor an input": (
        "r = Sqrt (m) e = Max (r, z) y = Div (x, e)",
        f"{X}, float z",
        "rms_min",
        "the floor is a graph input",
    ),
    "two floors": ("r = Sqrt (m) f = Max (r, floor) e = Max (f, eps) y = Div (x, e)", X, "rms_min", "a second floor"),
    "clipped from above": ("r = Sqrt (m) e = Clip (r, floor, one) y = Div (x, e)", X, "rms_min", "from above"),
    "cube root": (
        "c = Constant <value = float {0.3333}> () r = Pow (m, c) y = Div (x, r)",
        X,
        "root",
        "the exponent is 0.3333",
    ),
    "exponent an input": ("r = Pow (m, z) y = Div (x, r)", f"{X}, float z", "root", "the exponent is a graph input"),
}


@pytest.mark.parametrize(("root", "inputs", "piece", "reason"), NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(root, inputs, piece, reason, build, near_miss):
    near_miss(build(f"{MEAN} {root}", inputs=inputs), piece=piece, reason=reason)


def test_an_epsilon_that_grows_the_rank_is_a_near_miss(build, near_miss):
    near_miss(
        build(f"{MEAN} e = Add (m, eps111) {DIVIDE}", inputs="float[s,8] x", outputs="float[1,s,8] y"),
        piece="epsilon",
        reason="no scalar",
    )


def overridable(model):
    model.graph.input.append(onnx.helper.make_tensor_value_info("eps", 1, []))
    return model


def test_an_overridable_epsilon_is_a_near_miss(build, near_miss):
    near_miss(overridable(build(f"{MEAN} e = Add (m, eps) {DIVIDE}")), piece="epsilon", reason="a caller may override")


def test_before_ir_4_every_initialiser_is_an_input_and_constant(build):
    model = overridable(build(f"{MEAN} e = Add (m, eps) {DIVIDE}"))
    model.ir_version = 3
    assert len(fuse(model).norms) == 1


@pytest.mark.parametrize("end", ["y = Mul (m, z)", "y = Mul (x, m)", "y = Exp (m)"])
def test_a_mean_square_without_a_root_is_a_near_miss(end, build, near_miss):
    model = build(f"{MEAN} {end}", inputs=f"{X}, float[b,s,1] z", outputs="float[?,?,?] y")
    near_miss(model, piece="mean_square", reason=f"y ({end.split()[2]}) is not a piece of a norm")


def test_a_root_that_divides_nothing_is_a_near_miss(build, near_miss):
    near_miss(build(f"{MEAN} y = Sqrt (m)", outputs="float[b,s,1] y"), piece="normed", reason="nothing divides x")


SPREAD = {
    "Expand": "h = Shape (m) c = Expand (eps, h)",
    "ConstantOfShape": "h = Shape (m) c = ConstantOfShape <value = float[1] {3e-4}> (h)",
}


@pytest.mark.parametrize("spread", SPREAD.values(), ids=SPREAD)
def test_an_epsilon_repeated_in_the_shape_of_the_mean_square(spread, build, check):
    (norm,) = check(build(f"{MEAN} {spread} e = Add (m, c) {DIVIDE}")).norms
    assert norm.epsilon == pytest.approx(3e-4)


def test_an_epsilon_repeated_in_another_shape_is_a_near_miss(build, near_miss):
    body = f"{MEAN} h = Shape (z) c = Expand (eps, h) e = Add (m, c) {DIVIDE}"
    near_miss(
        build(body, inputs="float[b,s,8] x, float[t,b,s,1] z", outputs="float[t,b,s,8] y"),
        piece="epsilon",
        reason="not constant",
    )


def test_an_epsilon_per_row_is_not_taken_for_a_repeated_one(build, near_miss):
    """What is expanded has two elements."""
    body = f"{MEAN} h = Shape (m) t = Constant <value = float[2,1] {{0.1, 0.2}}> () c = Expand (t, h) e = Add (m, c) {DIVIDE}"
    near_miss(build(body, inputs="float[b,2,8] x", outputs="float[b,2,8] y"), piece="epsilon", reason="not constant")
