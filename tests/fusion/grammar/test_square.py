import pytest

from rms_deploy.fusion.fuse import fuse

REST = "m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, scale)"

SQUARES = {
    "product": "q = Mul (x, x)",
    "power": "q = Pow (x, two)",
    "power of an integer exponent": "t = Constant <value = int64 {2}> () q = Pow (x, t)",
    "power of a cast exponent": "t = Constant <value = int64 {2}> () f = Cast <to = 1> (t) q = Pow (x, f)",
    "product of two identities": "a = Identity (x) b = Identity (x) q = Mul (a, b)",
    "absolute value": "a = Abs (x) q = Mul (a, a)",
    "absolute value, power": "a = Abs (x) q = Pow (a, two)",
    "identity after it": "p = Mul (x, x) q = Identity (p)",
}


@pytest.mark.parametrize("square", SQUARES.values(), ids=SQUARES)
def test_matches(square, build, check):
    check(build(f"{square} {REST}"))


def test_equal_casts_of_one_x_are_one_x(build, check):
    body = "a = Cast <to = 1> (x) b = Cast <to = 1> (x) c = Cast <to = 1> (x) q = Mul (a, b)"
    rest = REST.replace("Div (x, r)", "Div (c, r)")
    check(build(f"{body} {rest}", inputs="float16[b,s,8] x"))


def test_the_first_part_of_x_makes_a_partial_norm(build, check):
    body = """
        z = Constant <value_ints = [0]> () k = Constant <value_ints = [3]> () f = Slice (x, z, k, last) q = Mul (f, f)
    """
    (norm,) = check(build(f"{body} {REST}")).norms
    assert (norm.kind, norm.partial_size, norm.n) == ("PartialRMSNorm", 3, 8)


def test_a_slice_normalised_by_itself_is_a_whole_norm(build, check):
    body = """
        z = Constant <value_ints = [0]> () k = Constant <value_ints = [3]> () f = Slice (x, z, k, last)
        q = Mul (f, f) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) y = Div (f, r)
    """
    (norm,) = check(build(body, outputs="float[b,s,3] y")).norms
    assert (norm.kind, norm.n) == ("RMSNorm", 3)


@pytest.mark.parametrize("start", [1, -3])
def test_another_part_of_x_is_a_near_miss(start, build, near_miss):
    body = f"""
        z = Constant <value_ints = [{start}]> () k = Constant <value_ints = [8]> () f = Slice (x, z, k, last)
        q = Mul (f, f)
    """
    near_miss(build(f"{body} {REST}"), piece="normed", reason="another tensor")


NEAR_MISSES = {
    "cube": ("q = Pow (x, three)", "the exponent is 3, not 2"),
    "exponent computed": ("t = ReduceMax <keepdims = 0> (scale) q = Pow (x, t)", "the exponent is not constant"),
    "exponent per channel": ("q = Pow (x, scale)", "the exponent is no scalar"),
}


@pytest.mark.parametrize(("square", "reason"), NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_misses(square, reason, build, near_miss):
    near_miss(build(f"{square} {REST}"), piece="square", reason=reason)


@pytest.mark.parametrize(
    "square",
    [
        "c = ReduceMean (x, last) x2 = Sub (x, c) q = Mul (x2, x2)",
        "c = ReduceMean (x, last) x2 = Sub (x, c) q = Pow (x2, two)",
        "c = ReduceMean (x, last) k = Neg (c) x2 = Add (k, x) q = Mul (x2, x2)",
    ],
)
def test_a_centred_x_is_a_layer_norm_and_no_near_miss(square, build):
    rest = REST.replace("Div (x,", "Div (x2,")
    result = fuse(build(f"{square} {rest}"))
    assert (result.norms, result.near_misses) == ((), ())


def test_an_exponent_that_grows_the_rank_is_a_near_miss(build, near_miss):
    body = "t = Constant <value = float[1,1,1] {2}> () q = Pow (x, t)"
    rest = "m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) y = Div (x, r)"
    near_miss(
        build(f"{body} {rest}", inputs="float[s,8] x", outputs="float[1,s,8] y"), piece="square", reason="no scalar"
    )


def test_a_product_of_two_tensors_is_nothing(build):
    result = fuse(build(f"q = Mul (x, z) {REST}", inputs="float[b,s,8] x, float[b,s,8] z"))
    assert not result.norms
    assert not result.near_misses
