"""Statistics of a reshaped or transposed x, and reshaped or transposed statistics."""

import pytest

from rms_deploy.fusion.fuse import fuse

ROOT = "q = Mul (t, t) m = ReduceMean (q, last) e = Add (m, eps) k = Sqrt (e)"
STATIC = {"inputs": "float[2,5,8] x", "outputs": "float[2,5,8] y"}


def shape(name, *sizes):
    return f"{name} = Constant <value_ints = [{','.join(map(str, sizes))}]> ()"


FLAT = f"{shape('flat', 10, 8)} {shape('rows', 2, 5, 1)} t = Reshape (x, flat)"


def test_rows_in_another_shape_are_run_and_fused(build, check):
    result = check(build(f"{FLAT} {ROOT} r = Reshape (k, rows) n = Div (x, r) y = Mul (n, scale)", **STATIC))
    (norm,) = result.norms
    assert (norm.axes, norm.n, norm.max_ulp) == ((-1,), 8, 0)
    assert [node.op_type for node in result.model.graph] == ["RMSNorm"]


def test_a_transposed_x(build, check):
    body = "t = Transpose <perm = [0,2,1]> (x) " + ROOT + " r = Transpose <perm = [0,2,1]> (k) y = Div (x, r)"
    (norm,) = check(build(body, inputs="float[b,6,s] x", outputs="float[b,6,s] y")).norms
    assert (norm.axes, norm.n) == ((1,), 6)


def test_squeezed_statistics(build, check):
    check(build("t = Identity (x) " + ROOT + " s = Squeeze (k, last) r = Unsqueeze (s, last) y = Div (x, r)"))


NEAR_MISSES = {
    "rows in another order": f"{shape('rows', 5, 5, 1)} t = Transpose <perm = [1,0,2]> (x) {ROOT} "
    "r = Reshape (k, rows)",
    "transposed and not put back": f"t = Transpose <perm = [1,0,2]> (x) {ROOT} r = Identity (k)",
    "transposed twice": (
        f"t = Transpose <perm = [1,0,2]> (x) {ROOT} j = Transpose <perm = [1,0,2]> (k) "
        "r = Transpose <perm = [1,0,2]> (j)"
    ),
    "other rows": f"{shape('flat', 25, 8)} {shape('rows', 1, 25, 1)} t = Reshape (x, flat) {ROOT} "
    f"h = Reshape (k, rows) {shape('one', 1)} {shape('five', 6)} {shape('axis', 1)} r = Slice (h, one, five, axis)",
}


@pytest.mark.parametrize("body", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_other_rows_are_near_misses(body, build):
    result = fuse(build(f"{body} y = Div (x, r)", inputs="float[5,5,8] x", outputs="float[5,5,8] y"))
    assert not result.norms
    assert result.near_misses


def test_axes_that_nobody_knows_are_no_fault(build):
    result = fuse(build("t = Identity (x) " + ROOT.replace("last", "a") + " y = Div (z, k)", inputs=DOUBTFUL))
    assert not result.norms
    assert "the axes are not constant" in result.near_misses[0].reason


def test_a_model_with_bodies(build):
    body = f"""{shape("z", 0, 0, 1)} q = Mul (x, x) m = ReduceMean <keepdims = 0> (q, last) k = Sqrt (m)
        r = Reshape (k, z) n = Div (x, r)
        y = If (c) <then_branch = t () => (float[b,s,8] y1) {{ y1 = Neg (n) }},
            else_branch = f () => (float[b,s,8] y2) {{ y2 = Exp (n) }}>"""
    assert len(fuse(build(body, inputs="float[b,s,8] x, bool c")).norms) == 1


DOUBTFUL = "float[b,s,8] x, float[b,s,8] z, int64[1] a"
