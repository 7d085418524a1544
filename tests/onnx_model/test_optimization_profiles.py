"""The shapes of an engine: given, guessed, and refused."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.errors import InputError
from rms_deploy.onnx_model.optimization_profiles import ShapeRange, guessed_inputs, resolve_profiles


def model(inputs="float[b, s, 64] x, float[b, 64] y"):
    text = f'<ir_version: 8, opset_import: ["" : 18]> g ({inputs}) => (float[1] z) {{ z = Identity (x) }}'
    return ir.from_proto(onnx.parser.parse_model(text))


def one(**shapes):
    (profile,) = resolve_profiles(model(), [shapes] if shapes else [])
    return {name: str(shape) for name, shape in profile.items()}


def test_guessed():
    assert one() == {"x": "1x1x64:2x16x64:32x256x64", "y": "1x64:2x64:32x64"}
    assert guessed_inputs(model(), []) == ("x", "y")


def test_given_ranges_settle_the_named_dimensions_of_the_others():
    shapes = [[1, 1, 64], [8, 128, 64], [32, 512, 64]]
    assert one(x=shapes) == {"x": "1x1x64:8x128x64:32x512x64", "y": "1x64:8x64:32x64"}
    assert guessed_inputs(model(), [{"x": shapes}]) == ("y",)
    assert guessed_inputs(model(), [{"x": shapes, "y": [[1, 64]] * 3}]) == ()


def test_what_they_do_not_settle_is_guessed():
    assert one(y=[[3, 64], [3, 64], [4, 64]])["x"] == "3x1x64:3x16x64:4x256x64"


def test_fixed_sizes_stay():
    assert resolve_profiles(model("float[4] x"), []) == ({"x": ShapeRange((4,), (4,), (4,))},)
    assert guessed_inputs(model("float[4] x"), []) == ()


def test_an_input_of_unknown_rank_must_be_given():
    unknown = model("float[2] x")
    unknown.graph.inputs[0].shape = None
    with pytest.raises(InputError, match="does not say its shape; give its shapes in `optimization_profiles`"):
        resolve_profiles(unknown, [])
    assert resolve_profiles(unknown, [{"x": [[2]] * 3}]) == ({"x": ShapeRange((2,), (2,), (2,))},)


def test_several_profiles():
    given = [{"x": [[size, 1, 64]] * 3} for size in (1, 4)]
    assert [profile["y"].opt for profile in resolve_profiles(model(), given)] == [(1, 64), (4, 64)]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"z": [[1]] * 3}, "the model has no input 'z'; it has x, y"),
        ({"y": [[1, 64]]}, "input y: 1 shapes were given; give the smallest, usual and largest"),
        ({"y": [[1, 64], [2, 64], [2, 65]]}, r"input y: shape \[2, 65\] was given; the model takes float32\[b,64\]"),
        ({"y": [[1, 64], [4, 64], [2, 64]]}, "input y: 1x64:4x64:2x64 is not in order; no size may shrink"),
        ({"y": [[2, 64], [1, 64], [2, 64]]}, "input y: 2x64:1x64:2x64 is not in order"),
        ({"y": [[1, 64], [1, 64], [1, 64, 1]]}, "input y: shape"),
        ({"y": [[-1, 64]] * 3}, "input y: size -1 is negative"),
        ({"x": [[1, 1, 64]] * 3, "y": [[2, 64]] * 3}, "dimension b is 1 and, in input y, 2; give it one size"),
    ],
)
def test_refused(shapes, message):
    with pytest.raises(InputError, match=message) as raised:
        resolve_profiles(model(), [shapes])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("shape", "inside"), [((1, 1), True), ((8, 4), True), ((9, 4), False), ((1,), False)])
def test_holds(shape, inside):
    assert ShapeRange((1, 1), (2, 2), (8, 4)).holds(shape) is inside
