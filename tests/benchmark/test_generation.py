"""What a benchmark of generation knows of a decoder: which outputs become which inputs, and an empty cache."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.benchmark.generation import cache_pairs, without_past
from rms_deploy.errors import InputError


def model(inputs: str, outputs: str = "float[b,1,q,4] present_0_key") -> ir.Model:
    body = "{ present_0_key = Identity(past_0_key) }"
    text = f'<ir_version: 8, opset_import: ["" : 18]> g ({inputs}) => ({outputs}) {body}'
    return ir.from_proto(onnx.parser.parse_model(text))


def test_outputs_take_the_place_of_the_inputs_of_their_names():
    inputs = ["input_ids", "past_key_values.0.key", "past_key_values.1.value", "past_0_key", "past_sequence_length"]
    outputs = ["logits", "present.1.value", "present.0.key", "present_0_key"]
    assert cache_pairs(inputs, outputs) == {
        "past_key_values.0.key": "present.0.key",
        "past_key_values.1.value": "present.1.value",
        "past_0_key": "present_0_key",
    }


@pytest.mark.parametrize(
    ("inputs", "shapes", "dims"),
    [
        ("int64[b,s] input_ids, float[b,1,p,4] past_0_key", {}, {"p": 0}),
        ("int64[b,s] input_ids, float[b,1,p,4] past_0_key", {"input_ids": (1, 3)}, {"p": 0}),
        ("int64[b,s] input_ids, float[b,1,p,4] past_0_key", {"past_0_key": (1, 1, 9, 4)}, {}),
        ("float[b,1,7,4] past_0_key", {}, {}),
        ("float[b,1,?,4] past_0_key", {}, {}),
    ],
)
def test_the_cache_is_empty_unless_its_length_is_given(inputs, shapes, dims):
    assert without_past(model(inputs), shapes) == dims


def test_a_dimension_that_the_output_shares_is_none_of_tokens():
    outputs = "float[b,h,q,head] present_0_key"
    assert without_past(model("float[b,h,p,head] past_0_key", outputs), {}) == {"p": 0}


def test_a_model_without_a_cache_is_refused():
    text = '<ir_version: 8, opset_import: ["" : 18]> g (float[b,4] x) => (float[b,4] y) { y = Exp(x) }'
    with pytest.raises(InputError, match="`generate` feeds a key-value cache back, and the model has none"):
        without_past(ir.from_proto(onnx.parser.parse_model(text)), {})
