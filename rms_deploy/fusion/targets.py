"""The norms of a model in another form: the passes by which `fuse` and `unfuse` write each `NormForm`."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from rms_deploy.fusion.passes.fit_scales import FitScales
from rms_deploy.fusion.passes.import_domains import import_domains
from rms_deploy.fusion.passes.lower_to_onnxruntime import LowerToOnnxRuntime
from rms_deploy.fusion.passes.lower_to_plugins import LowerToPlugins
from rms_deploy.fusion.passes.lower_to_primitives import LowerToPrimitives
from rms_deploy.fusion.passes.lower_to_standard import STANDARD_OPSET, LowerToStandard
from rms_deploy.fusion.passes.proven_shapes import proven_shapes
from rms_deploy.fusion.passes.rewriting import annotate
from rms_deploy.fusion.passes.widen_mixed_norms import WidenMixedNorms
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.convert_opset import convert_opset
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.forms import NormForm
from rms_deploy.ops.functions import attach_functions
from rms_deploy.ops.nodes import norm_nodes, require_onnx_opset

__all__ = ["lower"]

_PASSES: Final[dict[NormForm, type[ir.passes.InPlacePass]]] = {
    NormForm.STANDARD: LowerToStandard,
    NormForm.ONNXRUNTIME: LowerToOnnxRuntime,
    NormForm.TENSORRT_PLUGIN: LowerToPlugins,
    NormForm.DECOMPOSED: LowerToPrimitives,
}


def lower(model: ir.Model, target: NormForm, *, functions: bool = True) -> ir.Model:
    """Write our nodes in the form `target`; what it cannot express stays our node, and a warning says why.

    Args:
        model: changed in place, unless its opset has to be converted.
        target: the form.
        functions: give our nodes that remain their function bodies.

    Returns:
        The model, or a new one in another opset.

    Raises:
        InputError: the opset cannot express it.
    """
    if not any(True for _ in norm_nodes(model)):
        return model
    require_onnx_opset(model)
    if target is NormForm.STANDARD:
        _drop_functions(model)
        model = convert_opset(model, STANDARD_OPSET)
    if target in _PASSES:
        facts = Facts(model)
        _annotate(model, facts)
        with proven_shapes(model, facts):
            _PASSES[target]()(model)
    if functions:
        WidenMixedNorms()(model)
        FitScales()(model)
        attach_functions(model)
    else:
        _drop_functions(model)
    import_domains(model)
    return model


def _drop_functions(model: ir.Model) -> None:
    for key in [key for key in model.functions if key[0] == DOMAIN]:
        del model.functions[key]


def _annotate(model: ir.Model, facts: Facts) -> None:
    """Write down types and shapes that the file leaves out: what a norm can become depends on them."""
    for node in norm_nodes(model):
        for value in (*node.inputs, *node.outputs):
            if value is None:
                continue
            annotate(value, facts)
            shape = facts.shape(value)
            if value.shape is None and shape is not None:
                value.shape = ir.Shape(shape)
