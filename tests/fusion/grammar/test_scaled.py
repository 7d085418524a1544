import numpy as np
import pytest

CORE = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r)"

SCALES = {
    "right": ("y = Mul (n, w)", "float[8] w", "float32[8]"),
    "left": ("y = Mul (w, n)", "float[8] w", "float32[8]"),
    "initialiser": ("y = Mul (n, scale)", "float z", "float32[8]"),
    "[1,8]": ("y = Mul (n, w)", "float[1,8] w", "float32[1, 8]"),
    "[1,1,8]": ("y = Mul (n, w)", "float[1,1,8] w", "float32[1, 1, 8]"),
    "scalar": ("y = Mul (n, w)", "float w", "float32[]"),
    "[1]": ("y = Mul (n, w)", "float[1] w", "float32[1]"),
    "[1,1,1]": ("y = Mul (n, w)", "float[1,1,1] w", "float32[1, 1, 1]"),
    "constant scalar": ("y = Mul (n, half)", "float z", "float32[]"),
    "none": ("y = Identity (n)", "float z", "float32[]"),
    "1 + w at run time": ("g = Add (one, w) y = Mul (n, g)", "float[8] w", "float32[8]"),
    "w + 1 of an initialiser": ("g = Add (scale, one) y = Mul (g, n)", "float z", "float32[8]"),
}


@pytest.mark.parametrize(("end", "other", "scale"), SCALES.values(), ids=SCALES)
def test_matches(end, other, scale, build, check):
    result = check(build(f"{CORE} {end}", inputs=f"float[b,s,8] x, {other}"))
    assert result.norms[0].scale == scale
    assert "Mul" not in [node.op_type for node in result.model.graph]


ALL = "c = Constant <value = bool[8] {1, 1, 1, 1, 1, 1, 1, 1}> ()"
KEPT = {
    "per row and channel": ("y = Mul (n, w)", "float[b,1,8] w", "float[b,s,8] y"),
    "per element": ("y = Mul (n, w)", "float[b,s,8] w", "float[b,s,8] y"),
    "per row": ("y = Mul (n, w)", "float[b,s,1] w", "float[b,s,8] y"),
    "of unknown shape": (f"{ALL} g = Compress <axis = 0> (w, c) y = Mul (n, g)", "float[8] w", "float[b,s,8] y"),
    "grows the rank": ("y = Mul (n, w)", "float[1,1,1,8] w", "float[1,b,s,8] y"),
    "scalar that grows the rank": ("y = Mul (n, w)", "float[1,1,1,1] w", "float[1,b,s,8] y"),
    "computed from x": ("t = Tanh (x) y = Mul (n, t)", "float z", "float[b,s,8] y"),
    "the norm itself": ("y = Mul (n, n)", "float z", "float[b,s,8] y"),
}


@pytest.mark.parametrize(("end", "other", "output"), KEPT.values(), ids=KEPT)
def test_a_product_that_does_not_fit_stays_outside(end, other, output, build, check):
    result = check(build(f"{CORE} {end}", inputs=f"float[b,s,8] x, {other}", outputs=output))
    assert result.norms[0].scale == "float32[]"
    assert [node.op_type for node in result.model.graph].count("Mul") == 1


def test_a_scale_that_makes_the_last_axis_grow_stays_outside(build, check):
    result = check(build(f"{CORE} y = Mul (n, w)", inputs="float[b,s,1] x, float[8] w", outputs="float[b,s,8] y"))
    assert result.norms[0].n == 1
    assert "Mul" in [node.op_type for node in result.model.graph]


def test_a_scale_beside_a_last_axis_of_unknown_size_stays_outside(build, check):
    """Were it 1 at run time, the product would be wider than x."""
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 1)).astype(np.float32)}
    model = build(f"{CORE} y = Mul (n, scale)", inputs="float[b,s,h] x", outputs="float[b,s,8] y")
    result = check(model, feeds=feeds, near_misses=1)
    assert "Mul" in [node.op_type for node in result.model.graph]
    assert (result.near_misses[0].left, result.near_misses[0].piece) == ("scale", "scaled")
    assert "the shape of x is not known" in result.near_misses[0].reason


def test_the_second_of_two_scales_stays_outside(build, check):
    result = check(build(f"{CORE} a = Mul (n, scale) y = Mul (a, half)"))
    assert [node.op_type for node in result.model.graph] == ["RMSNorm", "Mul"]


def test_a_bias_stays_outside(build, check):
    result = check(build(f"{CORE} a = Mul (n, scale) y = Add (a, w)", inputs="float[b,s,8] x, float[8] w"))
    assert [node.op_type for node in result.model.graph] == ["RMSNorm", "Add"]


@pytest.mark.parametrize(
    ("shape", "fits"), [("[6,1,1]", True), ("[1,6,1,1]", True), ("[1]", True), ("[7]", False), ("[6,4,7]", False)]
)
def test_scale_of_an_inner_axis(shape, fits, build, check):
    body = CORE.replace("last", "c")
    model = build(
        f"c = Constant <value_ints = [1]> () {body} y = Mul (n, w)",
        inputs=f"float[b,6,4,7] x, float{shape} w",
        outputs="float[b,6,4,7] y",
    )
    assert ("Mul" not in [node.op_type for node in check(model).model.graph]) == fits


@pytest.mark.parametrize(("shape", "fits"), [("[4,7]", True), ("[1,4,7]", True), ("[7]", False), ("[4,1]", False)])
def test_scale_of_two_axes(shape, fits, build, check):
    body = CORE.replace("last", "c")
    model = build(
        f"c = Constant <value_ints = [-2, -1]> () {body} y = Mul (n, w)",
        inputs=f"float[b,6,4,7] x, float{shape} w",
        outputs="float[b,6,4,7] y",
    )
    assert ("Mul" not in [node.op_type for node in check(model).model.graph]) == fits


def test_a_scale_of_more_axes_than_x_is_no_scale(build, check):
    """It makes the rank of the result grow, which the op does not."""
    model = build(f"{CORE} y = Mul (n, w)", inputs="float[8] x, float[1,1] w", outputs="float[1,8] y")
    assert [node.op_type for node in check(model).model.graph] == ["RMSNorm", "Mul"]
