"""Means that are no reductions: poolings and products."""

import pytest

from rms_deploy.fusion.fuse import fuse

REST = "e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, scale)"
EIGHTHS = ", ".join(["0.125"] * 8)
MEANS = {
    "AveragePool": "m = AveragePool <kernel_shape = [8]> (q)",
    "MatMul": f"c = Constant <value = float[8,1] {{{EIGHTHS}}}> () m = MatMul (q, c)",
}


@pytest.mark.parametrize("mean", MEANS.values(), ids=MEANS)
def test_matches(mean, build, check):
    (norm,) = check(build(f"q = Mul (x, x) {mean} {REST}")).norms
    assert (norm.axes, norm.n) == ((-1,), 8)


def test_windows_are_a_near_miss(build, near_miss):
    body = f"q = Mul (x, x) m = AveragePool <kernel_shape = [7], pads = [3,3]> (q) {REST}"
    near_miss(build(body), piece="mean_square", reason="averaged over windows")


def test_other_weights_are_a_near_miss(build, near_miss):
    body = f"c = Constant <value = float[8,1] {{{EIGHTHS[:-1]}6}}> () q = Mul (x, x) m = MatMul (q, c) {REST}"
    near_miss(build(body), piece="mean_square", reason="which is not 1/n")


@pytest.mark.parametrize("end", ["y = Exp (m)", "s = Sigmoid (m) y = Mul (s, s)"])
def test_a_product_without_a_root_is_no_near_miss(end, build):
    """As in a feed-forward network of squared activations."""
    result = fuse(build(f"q = Mul (x, x) m = MatMul (q, w) {end}", inputs="float[b,s,8] x, float[8,1] w"))
    assert (result.norms, result.near_misses) == ((), ())
