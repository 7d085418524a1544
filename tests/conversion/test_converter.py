"""What is taken from ONNX Runtime is there, in the form that the rules read."""

from __future__ import annotations

from rms_deploy.conversion.converter import ALWAYS_FLOAT_INPUTS, DEFAULT_OP_BLOCK_LIST, operator_schemas


def test_the_converter_says_which_operators_it_keeps():
    assert {"Range", "CumSum", "Max"} <= set(DEFAULT_OP_BLOCK_LIST)
    assert ALWAYS_FLOAT_INPUTS["Resize"] == [2]


def test_the_schemas_name_the_types():
    (schema,) = [each for each in operator_schemas() if (each.domain, each.name) == ("com.microsoft", "QuickGelu")]
    assert schema.inputs[0].typeStr == "T"
    assert "tensor(float16)" in schema.type_constraints[0].allowed_type_strs
