"""The function that a model carries, where the parser expands it: no plugin, and an engine in every type and order."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rms_deploy.ops.contract import ELEMENT_TYPES, OPS
from rms_deploy.ops.functions import attach_functions

from .networks import Network, node_model


@pytest.mark.parametrize("order", ["once", "before scale"])
@pytest.mark.parametrize("dtype", ELEMENT_TYPES)
@pytest.mark.parametrize("op", [op.name for op in OPS.values() if not op.is_quantized])
def test_it_becomes_layers_of_tensorrt(trt, op, dtype, order):
    scale_type = ELEMENT_TYPES["float32" if order == "once" else dtype]
    model = ir.from_proto(node_model(op, (dtype, dtype), scale_type=scale_type))
    attach_functions(model)
    network = Network(trt, trt.Logger(trt.Logger.ERROR), ir.to_proto(model))
    assert network.errors == []
    kinds = [kind for kind, _ in network.layers()]
    assert "REDUCE" in kinds
    assert "PLUGIN_V3" not in kinds
    assert network.plan("SM120")


@pytest.mark.parametrize("op", [op.name for op in OPS.values() if op.is_quantized])
def test_the_function_in_that_of_a_quantised_norm_is_refused(trt, op):
    """TensorRT-RTX 1.7 leaves the attributes of a function within a function at zero: such a norm needs the plugin."""
    model = ir.from_proto(node_model(op, ("float16", "float16")))
    attach_functions(model)
    network = Network(trt, trt.Logger(trt.Logger.ERROR), ir.to_proto(model))
    assert any("Unsupported data type for the Cast operator" in error for error in network.errors)
