"""QuantizeLinear beside its norm: no code changes, and the scale and the zero point are constants."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rms_deploy.errors import InputError
from rms_deploy.fusion.passes.new_nodes import NewNodes
from rms_deploy.fusion.passes.split_quantization import split_quantization
from rms_deploy.ops.contract import ELEMENT_TYPES, QUANTIZED_TYPES
from rms_deploy.ops.nodes import norm_nodes

from .one_norm import assert_near, assert_same, expected, one_norm, operators, run


@pytest.mark.parametrize("op", ["RMSNormQuantize", "AddRMSNormQuantize"])
@pytest.mark.parametrize("quantized", QUANTIZED_TYPES)
@pytest.mark.parametrize("scale_type", ["float32", "same"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_no_code_changes(op, quantized, scale_type, dtype) -> None:
    scale_type = ELEMENT_TYPES[dtype if scale_type == "same" else scale_type]
    attributes = {"scale_type": scale_type, "output_dtype": QUANTIZED_TYPES[quantized], "y_scale": 0.03}
    model = one_norm(op, dtype, **attributes)
    before, exact = run(model), expected(model)
    norm = split_quantization(next(norm_nodes(model)), NewNodes(model), 20)
    assert operators(model) == [norm.op_type, *(["Cast"] if dtype != "float32" else []), "QuantizeLinear"]
    assert norm.op_type == op.removesuffix("Quantize")
    assert not {"y_scale", "output_dtype"} & set(norm.attributes)
    scale, zero_point = model.graph[-1].inputs[1:]
    assert [value.producer().op_type for value in (scale, zero_point)] == ["Constant", "Constant"]
    assert zero_point.dtype == QUANTIZED_TYPES[quantized]
    after = run(model)
    assert_same(after, before)
    assert_near(after, exact)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_division_keeps_its_type(dtype) -> None:
    attributes = {"output_dtype": 3, "y_scale": 0.03125, "precision": ELEMENT_TYPES[dtype]}
    model = one_norm("RMSNormQuantize", dtype, **attributes)
    before = run(model)
    split_quantization(next(norm_nodes(model)), NewNodes(model), 20)
    assert operators(model) == ["RMSNorm", "QuantizeLinear"]
    assert model.graph[-1].inputs[1].dtype == ELEMENT_TYPES[dtype]
    assert_same(run(model), before)


@pytest.mark.parametrize(("quantized", "opset", "needed"), [("int8", 9, 10), ("float8e4m3fn", 18, 19)])
def test_an_opset_without_it(quantized, opset, needed) -> None:
    model = one_norm("RMSNormQuantize", output_dtype=QUANTIZED_TYPES[quantized], opset=opset)
    (node,) = norm_nodes(model)
    with pytest.raises(InputError, match=f"RMSNormQuantize: opset {opset} has no QuantizeLinear to .* >= {needed}"):
        split_quantization(node, NewNodes(model), opset)
    assert operators(model) == ["RMSNormQuantize"]


def test_an_attribute_of_the_function_around_it() -> None:
    model = one_norm("RMSNormQuantize")
    (node,) = norm_nodes(model)
    node.attributes["y_scale"] = ir.RefAttr("y_scale", "size", ir.AttributeType.FLOAT)
    with pytest.raises(InputError, match="y_scale is an attribute of the function around it"):
        split_quantization(node, NewNodes(model), 20)
