import pytest

ROOT = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e)"
TWO = {"inputs": "float[b,s,8] x, float[b,s,8] z"}


@pytest.mark.parametrize(
    "end", ["y = Div (x, r)", "i = Reciprocal (r) y = Mul (x, i)", "j = Identity (x) y = Div (j, r)"]
)
def test_matches(end, build, check):
    check(build(f"{ROOT} {end}"))


REFUSED = {
    "another tensor divided": "y = Div (z, r)",
    "another tensor multiplied": "i = Reciprocal (r) y = Mul (i, z)",
    "the square divided": "y = Div (q, r)",
    "the inverse root squared": "i = Reciprocal (r) y0 = Mul (i, i) y = Mul (y0, x)",
    "a function of x divided": "t = Tanh (x) y = Div (t, r)",
}


@pytest.mark.parametrize("end", REFUSED.values(), ids=REFUSED)
def test_refuses(end, build, refused):
    refused(build(f"{ROOT} {end}", **TWO), piece="normed", reason="another tensor")


def test_the_root_divided_by_x_is_a_near_miss(build, refused):
    refused(build(f"{ROOT} y = Div (r, x)"), piece="normed", reason="nothing divides x")


def test_one_root_may_divide_x_and_another_tensor(build, check):
    result = check(build(f"{ROOT} n = Div (x, r) o = Div (z, r) y = Add (n, o)", **TWO), left=1)
    assert [node.op_type for node in result.model.graph].count("Div") == 1
    assert "another tensor" in result.left[0].reason
