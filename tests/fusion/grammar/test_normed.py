import pytest

ROOT = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e)"
TWO = {"inputs": "float[b,s,8] x, float[b,s,8] z"}


@pytest.mark.parametrize(
    "end", ["y = Div (x, r)", "i = Reciprocal (r) y = Mul (x, i)", "j = Identity (x) y = Div (j, r)"]
)
def test_matches(end, build, check):
    check(build(f"{ROOT} {end}"))


NEAR_MISSES = {
    "another tensor divided": "y = Div (z, r)",
    "another tensor multiplied": "i = Reciprocal (r) y = Mul (i, z)",
    "the square divided": "y = Div (q, r)",
    "the inverse root squared": "i = Reciprocal (r) y0 = Mul (i, i) y = Mul (y0, x)",
    "a function of x divided": "t = Tanh (x) y = Div (t, r)",
}


@pytest.mark.parametrize("end", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(end, build, near_miss):
    near_miss(build(f"{ROOT} {end}", **TWO), piece="normed", reason="another tensor")


SCALED_FIRST = {
    "(x * w) / r": "p = Mul (x, scale) y = Div (p, r)",
    "(w * x) / r": "p = Mul (scale, x) y = Div (p, r)",
    "(x * w) * i": "p = Mul (x, scale) i = Reciprocal (r) y = Mul (p, i)",
    "x * (i * w)": "i = Reciprocal (r) p = Mul (i, scale) y = Mul (x, p)",
    "(w * i) * x": "i = Reciprocal (r) p = Mul (scale, i) y = Mul (p, x)",
    "(w / r) * x": "p = Div (scale, r) y = Mul (p, x)",
}


@pytest.mark.parametrize("end", SCALED_FIRST.values(), ids=SCALED_FIRST)
def test_scaled_before_it_is_divided(end, build, check):
    result = check(build(f"{ROOT} {end}"))
    assert result.norms[0].scale == "float32[8]"
    assert [node.op_type for node in result.model.graph] == ["RMSNorm"]


def test_scaled_on_both_sides(build, check):
    """One scale is part of the op, the other product stays."""
    result = check(build(f"{ROOT} p = Div (scale, r) n = Mul (p, x) y = Mul (n, half)"))
    assert [node.op_type for node in result.model.graph] == ["RMSNorm", "Mul"]


@pytest.mark.parametrize(
    "end",
    [
        "p = Mul (x, z) y = Div (p, r)",
        "i = Reciprocal (r) p = Mul (i, z) y = Mul (x, p)",
        "p = Div (z, r) y = Mul (p, x)",
    ],
)
def test_a_factor_that_does_not_fit_is_no_scale(end, build, near_miss):
    near_miss(build(f"{ROOT} {end}", **TWO), piece="normed", reason="another tensor")


def test_two_scales_before_it_is_divided(build, near_miss):
    end = "p = Mul (x, scale) i = Reciprocal (r) j = Mul (i, scale) y = Mul (p, j)"
    near_miss(build(f"{ROOT} {end}"), piece="normed", reason="another tensor")


def test_the_root_divided_by_x_is_a_near_miss(build, near_miss):
    near_miss(build(f"{ROOT} y = Div (r, x)"), piece="root", reason="y (Div) is not a piece of a norm")


def test_one_root_may_divide_x_and_another_tensor(build, check):
    result = check(build(f"{ROOT} n = Div (x, r) o = Div (z, r) y = Add (n, o)", **TWO), near_misses=1)
    assert [node.op_type for node in result.model.graph].count("Div") == 1
    assert "another tensor" in result.near_misses[0].reason
