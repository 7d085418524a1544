"""What stays outside of a norm is listed, with its reason."""

import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.inspect import inspect
from rms_deploy.fusion.unfuse import unfuse

CORE = "q = Mul (h, h) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (h, r)"
UNKNOWN = "h = local.F (x)"


@pytest.fixture
def left(build):
    """The parts that stay outside in a model, as `fuse`, a second `fuse`, and `inspect` list them."""

    def look(body, **options):
        result = fuse(build(body, **options))
        assert len(result.norms) == 1
        found = [(miss.left, miss.reason) for miss in result.near_misses]
        for again in (fuse(result.model), inspect(result.model)):
            assert [(miss.left, miss.reason) for miss in again.near_misses] == found
        return found

    return look


def test_a_scale_beside_an_unknown_shape(left):
    ((part, reason),) = left(f"h = Reshape (x, z) {CORE} y = Mul (n, scale)", inputs="float[b,s,8] x, int64[3] z")
    assert part == "scale"
    assert reason == "the shape of x is not known, so its scale scale stays a Mul"


def test_a_scale_beside_other_readers(left):
    ((part, reason),) = left(f"h = Identity (x) {CORE} k = Exp (n) j = Mul (n, scale) y = Add (k, j)")
    assert part == "scale"
    assert "read by others too" in reason


def test_a_scale_behind_a_quantisation(left):
    quantised = "i = QuantizeLinear (n, half, zero) k = DequantizeLinear (i, half, zero)"
    zero = "zero = Constant <value = uint8 {128}> ()"
    (part, reason), (other, _) = left(f"{zero} h = Identity (x) {CORE} {quantised} y = Mul (k, scale)")
    assert (part, other) == ("scale", "quantization")
    assert reason == "x / rms is quantised before it is scaled by scale; fuse before quantising"


def test_what_the_caller_gives_is_no_scale(left):
    assert not left(f"h = Identity (x) {CORE} y = Mul (n, g)", inputs="float[b,s,8] x, float[b,1,8] g")


@pytest.mark.parametrize(
    ("x", "scale", "axis", "y", "reason"),
    [
        ("[2,b,2,4]", "[2,1,2,4]", -1, "[2,b,2,4]", "varies along two axes in front, and not along one between them"),
        ("[b,8,2]", "[8,2]", 1, "[b,8,2]", "varies behind the axes"),
        ("[1,8,4]", "[16,1,1]", -1, "[16,8,4]", "does not broadcast to x"),
    ],
)
def test_a_shape_that_the_op_does_not_take_is_a_note(x, scale, axis, y, reason, build):
    wide = f"g = Constant <value = float{scale} {{1,2,3,4,5,6,7,8,8,7,6,5,4,3,2,1}}> ()"
    body = f"c = Constant <value_ints = [{axis}]> () {wide} h = Identity (x) {CORE.replace('last', 'c')} y = Mul (n, g)"
    result = fuse(build(body, inputs=f"float{x} x", outputs=f"float{y} y"))
    assert not result.near_misses
    dims = scale.replace(",", ", ")
    assert result.norms[0].note == f"its scale {dims} stays a Mul: it {reason}"


def test_a_scale_of_several_rows_beside_other_readers(left):
    wide = "g = Constant <value = float[2,8] {1,2,3,4,5,6,7,8,8,7,6,5,4,3,2,1}> ()"
    ((part, reason),) = left(
        f"{wide} h = Identity (x) {CORE} k = Exp (n) j = Mul (n, g) y = Add (k, j)",
        inputs="float[b,2,8] x",
        outputs="float[b,2,8] y",
    )
    assert part == "scale"
    assert "read by others too" in reason


def test_a_scale_that_stayed_outside_when_the_norm_was_fused(build):
    """As in a file of a version that took one row of scale only."""
    wide = "g = Constant <value = float[2,8] {1,2,3,4,5,6,7,8,8,7,6,5,4,3,2,1}> ()"
    body = f"{wide} n = rms_deploy.RMSNorm (x, one) y = Mul (n, g)"
    model = build(body, inputs="float[b,2,8] x", outputs="float[b,2,8] y")
    model.opset_import.add(domain="rms_deploy", version=1)
    (miss,) = fuse(model).near_misses
    assert miss.reason == "its scale g stayed a Mul when the norm was fused; unfuse the model, and fuse it again"
    result = fuse(unfuse(model).model)
    assert not result.near_misses
    assert [node.op_type for node in result.model.graph] == ["Constant", "RMSNorm"]


def test_a_wide_scale_beside_a_symbol_is_run(build):
    two = "g = Constant <value = float[2,1,8] {1,2,3,4,5,6,7,8,8,7,6,5,4,3,2,1}> () "
    root = "k = Constant <value = float {2.828427124}> () l = ReduceL2 (x, last) d = Div (x, l) "
    body = f"{two} {root} j = Mul (d, g) y = Mul (j, k)"
    (norm,) = fuse(build(body, inputs="float[b,h,s,8] x", outputs="float[b,h,s,8] y")).norms
    assert norm.max_ulp is not None


def test_a_residual_of_unknown_shape(left):
    ((part, reason),) = left(
        f"g = Reshape (x, z) h = Add (x, g) {CORE} y = Identity (n)", inputs="float[b,s,8] x, int64[3] z"
    )
    assert part == "residual"
    assert reason.startswith("the Add h stays: x ([b, s, 8]) and g ([")
    assert reason.endswith("are not proven to have one shape")


def test_a_sum_that_is_cast(left):
    body = f"t = Add (x, z) h = Cast <to = 1> (t) {CORE} y = Mul (n, scale)"
    ((part, reason),) = left(body, inputs="float16[b,s,8] x, float16[b,s,8] z")
    assert part == "residual"
    assert reason == "the Add t stays: its sum is cast before it is normalised"


@pytest.mark.parametrize("other", ["float[8] z", "float[b,1,8] z", "float[1,s,8] z"])
def test_a_broadcast_is_no_residual(other, left):
    assert not left(f"h = Add (x, z) {CORE} y = Identity (n)", inputs=f"float[b,s,8] x, {other}")


def test_a_bias_is_no_residual(left):
    assert not left(f"h = Add (x, scale) {CORE} y = Identity (n)")


def test_a_residual_that_is_not_wanted_is_not_listed(build):
    model = build(f"h = Add (x, z) {CORE} y = Identity (n)", inputs="float[b,s,8] x, float[c,s,8] z")
    assert [miss.left for miss in fuse(model).near_misses] == ["residual"]
    assert not fuse(model, residual=False).near_misses
    assert not fuse(model, target="decomposed").near_misses


def test_require_all_writes_nothing_for_a_part(build, tmp_path):
    model = build(f"h = Add (x, z) {CORE} y = Identity (n)", inputs="float[b,s,8] x, float[c,s,8] z")
    assert not fuse(model, tmp_path / "fused.onnx", require_all=True).written
    assert not (tmp_path / "fused.onnx").exists()
