"""A model in a newer ONNX opset, its weights neither loaded nor copied."""

from __future__ import annotations

from typing import Final

import onnx
import onnx.version_converter
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from rms_deploy.errors import InputError
from rms_deploy.ops import schemas

__all__ = ["convert_opset"]

_SMALL: Final = 1024
"""Bytes up to which an initialiser goes through the converter: some operators' attributes become such inputs."""


def convert_opset(model: ir.Model, version: int) -> ir.Model:
    """`model` in ONNX opset `version`, or `model` itself if its opset is not older.

    1. Local functions are inlined, as onnx's converter drops them.
    2. Weights become graph inputs while the converter runs, so that it does not copy them.

    Raises:
        InputError: the converter refuses the model, or what it makes is not valid.
    """
    old = model.opset_imports.get("", 0)
    if old >= version:
        return model
    InlinePass()(model)  # case 1
    weights = _lift_weights(model)  # case 2
    try:
        proto = onnx.version_converter.convert_version(ir.to_proto(model), version)
        proto.ir_version = max(model.ir_version, onnx.helper.OP_SET_ID_VERSION_MAP.get(("ai.onnx", version), 0))
        schemas.register()
        unknown = {node.domain for graph in model.graphs() for node in graph} - {"", "ai.onnx.ml"}
        if not unknown:
            onnx.checker.check_model(proto)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"onnx cannot convert the model from opset {old} to {version}: {reason}; export it with a newer opset"
        ) from error
    converted = ir.from_proto(proto)
    _restore_weights(converted, weights)
    return converted


def _lift_weights(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    weights: dict[str, ir.TensorProtocol] = {}
    graph = model.graph
    for name, value in list(graph.initializers.items()):
        if value.const_value is None or value.const_value.nbytes <= _SMALL or value.is_graph_input():
            continue
        weights[name] = value.const_value
        value.type, value.shape = ir.TensorType(value.const_value.dtype), ir.Shape(value.const_value.shape.numpy())
        graph.initializers.pop(name)
        value.const_value = None
        graph.inputs.append(value)
    return weights


def _restore_weights(model: ir.Model, weights: dict[str, ir.TensorProtocol]) -> None:
    graph = model.graph
    lifted = [value for value in graph.inputs if value.name in weights]
    kept = [value for value in graph.inputs if value.name not in weights]
    graph.inputs.clear()
    graph.inputs.extend(kept)
    for value in lifted:
        assert value.name is not None
        value.const_value = weights[value.name]
        graph.register_initializer(value)
