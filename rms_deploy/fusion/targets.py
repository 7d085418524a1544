"""What the norms of a model may become: the forms that `fuse --target` and `unfuse` write."""

from __future__ import annotations

from typing import Final, Literal

import onnx_ir as ir

from rms_deploy.errors import InputError
from rms_deploy.fusion.grammar import Facts
from rms_deploy.fusion.passes.lower_to_onnxruntime import LowerToOnnxRuntime
from rms_deploy.fusion.passes.lower_to_plugins import LowerToPlugins
from rms_deploy.fusion.passes.lower_to_primitives import LowerToPrimitives
from rms_deploy.fusion.passes.lower_to_standard import STANDARD_OPSET, LowerToStandard
from rms_deploy.fusion.passes.rewriting import annotate
from rms_deploy.fusion.passes.widen_mixed_norms import WidenMixedNorms
from rms_deploy.onnx_model.convert_opset import convert_opset
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.functions import attach_functions, norm_nodes, require_onnx_opset

__all__ = ["TARGETS", "Target", "check_target", "lower"]

Target = Literal["rms_deploy", "onnx", "onnxruntime", "trt.plugins", "primitives"]

TARGETS: Final[dict[str, str]] = {
    "rms_deploy": "our ops, with their function bodies",
    "onnx": "RMSNormalization, in opset 23 or later",
    "onnxruntime": "[Skip]SimplifiedLayerNormalization of ONNX Runtime, which rounds once, after the scale",
    "trt.plugins": "our TensorRT plugins, as ONNX Runtime's TensorRT provider names them",
    "primitives": "Pow, ReduceMean, Sqrt and so on, in float32 with the casts",
}

_PASSES: Final[dict[str, type[ir.passes.InPlacePass]]] = {
    "onnx": LowerToStandard,
    "onnxruntime": LowerToOnnxRuntime,
    "trt.plugins": LowerToPlugins,
    "primitives": LowerToPrimitives,
}


def check_target(target: str) -> None:
    """Raise InputError if there is no such target."""
    if target not in TARGETS:
        raise InputError(f"target {target!r} is not known; use {', '.join(TARGETS)}")


def lower(model: ir.Model, target: str, *, functions: bool = True) -> ir.Model:
    """Our nodes in the form of `target`; what it cannot express stays our node, and a warning says why.

    Args:
        model: changed in place, unless its opset has to be converted.
        target: one of `TARGETS`.
        functions: give our nodes that remain their function bodies.

    Returns:
        The model, or a new one in another opset.

    Raises:
        InputError: no such target, or the opset cannot express it.
    """
    check_target(target)
    if not any(True for _ in norm_nodes(model)):
        return model
    require_onnx_opset(model)
    if target == "onnx":
        _drop_functions(model)
        model = convert_opset(model, STANDARD_OPSET)
    if target in _PASSES:
        _annotate(model)
        _PASSES[target]()(model)
    if functions:
        WidenMixedNorms()(model)
        attach_functions(model)
    else:
        _drop_functions(model)
    return model


def _drop_functions(model: ir.Model) -> None:
    for key in [key for key in model.functions if key[0] == DOMAIN]:
        del model.functions[key]


def _annotate(model: ir.Model) -> None:
    """Write down types and shapes that the file leaves out: what a norm can become depends on them."""
    facts = Facts(model)
    for node in norm_nodes(model):
        for value in (*node.inputs, *node.outputs):
            if value is None:
                continue
            annotate(value, facts)
            shape = facts.shape(value)
            if value.shape is None and shape is not None:
                value.shape = ir.Shape(shape)
