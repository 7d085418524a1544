"""A model in a newer ONNX opset, its weights neither loaded nor copied."""

from __future__ import annotations

import onnx
import onnx.version_converter
import onnx_ir as ir

from rms_deploy.errors import InputError
from rms_deploy.onnx_model.carry_over import carry_over
from rms_deploy.onnx_model.inline_functions import inline_functions
from rms_deploy.onnx_model.set_aside import SetAside
from rms_deploy.onnx_model.unread_parts import hand_on_parts
from rms_deploy.ops import schemas

__all__ = ["convert_opset"]


def convert_opset(model: ir.Model, version: int) -> ir.Model:
    """`model` in ONNX opset `version`, or `model` itself if its opset is not older.

    1. Local functions are inlined, as onnx's converter drops them.
    2. Weights become graph inputs while the converter runs, so that it does not copy them, nor read any file.
    3. What the converter drops is carried over: documentation, metadata, denotations, training info.

    Raises:
        InputError: the converter refuses the model, or what it makes is not valid.
    """
    old = model.opset_imports.get("", 0)
    if old >= version:
        return model
    inline_functions(model)  # case 1
    model.functions.clear()
    weights = SetAside(model)  # case 2
    converted = ir.from_proto(_converted(model, version))
    carry_over(model, converted)  # case 3
    weights.put_back(converted)
    hand_on_parts(model, converted)
    return converted


def _converted(model: ir.Model, version: int) -> onnx.ModelProto:
    old = model.opset_imports.get("", 0)
    try:
        proto = onnx.version_converter.convert_version(ir.to_proto(model), version)
        proto.ir_version = max(model.ir_version, onnx.helper.OP_SET_ID_VERSION_MAP.get(("ai.onnx", version), 0))
        schemas.register()
        unknown = {node.domain for graph in model.graphs() for node in graph} - {"", "ai.onnx.ml"}
        if not unknown:
            onnx.checker.check_model(proto)
    except (
        RuntimeError,
        ValueError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        onnx.version_converter.ConvertError,
    ) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"onnx cannot convert the model from opset {old} to {version}: {reason}; export it with a newer opset"
        ) from error
    return proto
