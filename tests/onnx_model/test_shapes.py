"""Shapes of inputs: given, derived, guessed, refused."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.errors import InputError
from rms_deploy.onnx_model.shapes import guess_advice, resolve_shapes


def model(inputs: str) -> ir.Model:
    text = f'<ir_version: 8, opset_import: ["" : 18]> g ({inputs}) => (float[2] y) {{ y = Identity(x) }}'
    return ir.from_proto(onnx.parser.parse_model(text))


def decoder() -> ir.Model:
    return model('int64[batch,seq] x, int64[batch,"past + seq"] mask, float[batch,4,past,8] cache, float z')


def test_a_dynamic_batch_is_guessed_2_and_any_other_size_16():
    expected = {"x": (2, 16), "mask": (2, 32), "cache": (2, 4, 16, 8), "z": ()}
    assert resolve_shapes(decoder()) == expected
    assert resolve_shapes(model("float[?,?] x, float[n] z")) == {"x": (2, 16), "z": (16,)}


def test_a_given_dimension_goes_into_every_input_and_every_sum():
    shapes = resolve_shapes(decoder(), dims={"past": 7, "seq": 1})
    assert shapes == {"x": (2, 1), "mask": (2, 8), "cache": (2, 4, 7, 8), "z": ()}


def test_a_given_shape_settles_the_dimensions_of_the_other_inputs():
    shapes = resolve_shapes(decoder(), shapes={"x": (3, 5)})
    assert shapes == {"x": (3, 5), "mask": (3, 21), "cache": (3, 4, 16, 8), "z": ()}


CACHED = "int64[batch,seq] input_ids, int64[batch,total] attention_mask, float[batch,4,past,8] past_key_values_0_key"


@pytest.mark.parametrize(
    ("options", "seq", "past", "total"),
    [
        ({}, 16, 16, 32),
        ({"dims": {"seq": 1}}, 1, 16, 17),
        ({"dims": {"seq": 3, "past": 0}}, 3, 0, 3),
        ({"shapes": {"past_key_values_0_key": (2, 4, 7, 8)}}, 16, 7, 23),
        ({"dims": {"total": 40}}, 16, 16, 40),
        ({"shapes": {"attention_mask": (2, 5)}}, 16, 16, 5),
    ],
)
def test_an_attention_mask_is_as_long_as_the_past_and_the_new_tokens(options, seq, past, total):
    shapes = resolve_shapes(model(CACHED), **options)
    assert shapes == {"input_ids": (2, seq), "attention_mask": (2, total), "past_key_values_0_key": (2, 4, past, 8)}


def test_an_attention_mask_without_a_cache_has_a_length_of_its_own():
    shapes = resolve_shapes(model("int64[b,s] input_ids, int64[b,t] attention_mask"), dims={"s": 3})
    assert shapes["attention_mask"] == (2, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shapes": {"ids": (1, 2)}}, "the model has no input 'ids'; it has x, mask, cache, z"),
        ({"dims": {"b": 1}}, "the model has no dynamic dimension 'b'; it has batch, seq, past"),
        ({"dims": {"batch": -1}}, "batch: size -1 is negative"),
        ({"shapes": {"x": (1, -2)}}, "input x: size -2 is negative"),
        ({"dims": {"batch": 2**63}}, "batch: size 9223372036854775808 does not fit into 64 bits; use a smaller one"),
        ({"shapes": {"x": (1, 2, 3)}}, r"input x: shape \[1, 2, 3\] was given; the model takes int64\[batch,seq\]"),
        ({"shapes": {"cache": (1, 5, 1, 8)}}, r"the model takes float32\[batch,4,past,8\]"),
        ({"shapes": {"x": (1, 2)}, "dims": {"batch": 3}}, "dimension batch is 3 and, in input x, 1"),
    ],
)
def test_what_contradicts_the_model_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        resolve_shapes(decoder(), **options)


def test_an_input_of_unknown_rank_must_be_given():
    graph = model("float[2] x")
    graph.graph.inputs[0].shape = None
    with pytest.raises(
        InputError,
        match=r"input x: the model does not say its shape; give its shape, such as `shapes={'x': \(1, 128\)}`",
    ):
        resolve_shapes(graph)
    assert resolve_shapes(graph, shapes={"x": (2,)}) == {"x": (2,)}


def test_guessed_sizes_are_named_with_what_to_give():
    text = "these sizes were guessed: seq=16, past=16; give those that do not fit, such as `dims={'past': 16}`"
    assert guess_advice(decoder(), dims={"batch": 1}) == text
    assert "guessed: past=16;" in guess_advice(decoder(), shapes={"x": (1, 8)})
    assert guess_advice(decoder(), shapes={"x": (1, 8)}, dims={"past": 3}) == ""
