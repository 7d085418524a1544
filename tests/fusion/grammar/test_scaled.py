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
    "a gate": ("y = Mul (n, w)", "float[b,s,8] w", "float[b,s,8] y"),
    "a gate that is computed from x": ("t = Tanh (x) y = Mul (n, t)", "float z", "float[b,s,8] y"),
    "of unknown shape": (f"{ALL} g = Compress <axis = 0> (w, c) y = Mul (n, g)", "float[8] w", "float[b,s,8] y"),
    "grows the rank": ("y = Mul (n, w)", "float[1,1,1,8] w", "float[1,b,s,8] y"),
    "scalar that grows the rank": ("y = Mul (n, w)", "float[1,1,1,1] w", "float[1,b,s,8] y"),
    "beside a size that is not known": ("y = Mul (n, w)", "float[3,1,8] w", "float[b,s,8] y"),
    "the norm itself": ("y = Mul (n, n)", "float z", "float[b,s,8] y"),
}


@pytest.mark.parametrize(("end", "other", "output"), KEPT.values(), ids=KEPT)
def test_a_product_that_does_not_fit_stays_outside(end, other, output, build, check):
    result = check(build(f"{CORE} {end}", inputs=f"float[b,s,8] x, {other}", outputs=output))
    assert result.norms[0].scale == "float32[]"
    assert [node.op_type for node in result.model.graph].count("Mul") == 1


SEVERAL_ROWS = {
    "a scale a group": ("float[b,s,4,8] x, float[4,8] w", "float32[4, 8]"),
    "a scale a group, ones in front": ("float[b,s,4,8] x, float[1,1,4,8] w", "float32[1, 1, 4, 8]"),
    "a factor a group": ("float[b,s,4,8] x, float[4,1] w", "float32[4, 1]"),
    "a scale a sample": ("float[b,s,8] x, float[b,1,8] w", "float32[b, 1, 8]"),
    "a factor a row": ("float[b,s,8] x, float[b,s,1] w", "float32[b, s, 1]"),
    "a scale a position": ("float[b,s,8] x, float[s,8] w", "float32[s, 8]"),
    "an axis in the middle": ("float[b,4,s,8] x, float[4,1,8] w", "float32[4, 1, 8]"),
}


@pytest.mark.parametrize(("inputs", "scale"), SEVERAL_ROWS.values(), ids=SEVERAL_ROWS)
def test_a_scale_of_several_rows(inputs, scale, build, check):
    """Also in half types, in each order of rounding; the proof ran."""
    shape = inputs.partition(" x")[0].removeprefix("float")
    result = check(build(f"{CORE} y = Mul (w, n)", inputs=inputs, outputs=f"float{shape} y"))
    assert [node.op_type for node in result.model.graph] == ["RMSNorm"]
    assert result.norms[0].scale == scale
    assert result.norms[0].max_ulp == 0
    wide = CORE.replace("x", "u")
    ends = {
        "once": f"u = Cast <to = 1> (x) {wide} f = Cast <to = 1> (w) k = Mul (n, f) y = Cast <to = 10> (k)",
        "before scale": f"u = Cast <to = 1> (x) {wide} k = Cast <to = 10> (n) y = Mul (w, k)",
    }
    for rounding, body in ends.items():
        model = build(body, inputs=inputs.replace("float", "float16"), outputs=f"float16{shape} y")
        result = check(model)
        assert [node.op_type for node in result.model.graph] == ["RMSNorm"]
        assert (result.norms[0].rounding, result.norms[0].max_ulp) == (rounding, 0)


@pytest.mark.parametrize("end", ["t = Mul (x, w) y = Div (t, r)", "t = Div (w, r) y = Mul (t, x)"])
def test_a_scale_of_several_rows_before_the_division(end, build, check):
    body = CORE.replace(" n = Div (x, r)", "")
    result = check(build(f"{body} {end}", inputs="float[b,s,4,8] x, float[4,8] w", outputs="float[b,s,4,8] y"))
    assert [node.op_type for node in result.model.graph] == ["RMSNorm"]


def test_a_weight_of_the_shape_of_x(build, check):
    wide = "g = Constant <value = float[2,4] {1,2,3,4,5,6,7,8}> ()"
    result = check(build(f"{wide} {CORE} y = Mul (n, g)", inputs="float[2,4] x", outputs="float[2,4] y"))
    assert [node.op_type for node in result.model.graph] == ["Constant", "RMSNorm"]


def test_a_scale_that_skips_an_axis_stays_outside(build, check):
    """One run of rows is what the kernels count."""
    inputs = "float[b,h,s,8] x, float[b,1,s,8] w"
    result = check(build(f"{CORE} y = Mul (n, w)", inputs=inputs, outputs="float[b,h,s,8] y"))
    assert [node.op_type for node in result.model.graph] == ["RMSNorm", "Mul"]


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


def test_a_bias_is_no_scale(build, check):
    model = build(f"{CORE} a = Mul (n, scale) y = Add (a, w)", inputs="float[b,s,8] x, float[8] w")
    result = check(model, shift=False)
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
