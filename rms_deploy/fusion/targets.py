"""The norms of a model in another form: the passes by which `fuse` and `unfuse` write each `NormForm`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from functools import partial
from typing import Final

import onnx_ir as ir

from rms_deploy.fusion.passes.fit_scales import FitScales, may_be_misread
from rms_deploy.fusion.passes.import_domains import import_domains
from rms_deploy.fusion.passes.lower_to_onnxruntime import LowerToOnnxRuntime
from rms_deploy.fusion.passes.lower_to_plugins import LowerToPlugins
from rms_deploy.fusion.passes.lower_to_primitives import LowerToPrimitives
from rms_deploy.fusion.passes.lower_to_standard import STANDARD_OPSET, LowerToStandard
from rms_deploy.fusion.passes.proven_shapes import proven_shapes
from rms_deploy.fusion.passes.rename_inlined import rename_inlined
from rms_deploy.fusion.passes.rewriting import annotate
from rms_deploy.fusion.passes.widen_mixed_norms import WidenMixedNorms
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.convert_opset import convert_opset
from rms_deploy.ops.contract import DOMAIN, OPS
from rms_deploy.ops.forms import NormForm
from rms_deploy.ops.function_body import CAST_LIKE_OPSET
from rms_deploy.ops.functions import attach_functions
from rms_deploy.ops.misread_scale import MISREAD
from rms_deploy.ops.nodes import all_graphs, norm_nodes, require_onnx_opset

__all__ = ["lower"]

_PASSES: Final[dict[NormForm, type[ir.passes.InPlacePass]]] = {
    NormForm.STANDARD: LowerToStandard,
    NormForm.ONNXRUNTIME: LowerToOnnxRuntime,
    NormForm.TENSORRT_PLUGIN: LowerToPlugins,
    NormForm.DECOMPOSED: LowerToPrimitives,
}


def lower(
    model: ir.Model,
    target: NormForm,
    *,
    functions: bool = True,
    facts: Facts | None = None,
    modified: bool = False,
    keep: Set[str] = frozenset(),
) -> ir.passes.PassResult:
    """Write our nodes in the form `target`; what it cannot express stays our node, and a warning says why.

    A gate, a shift, a sum in another type than X, and quantisation are split off where the form has no op for them: see
    `bare_norm`. No number changes by that.

    Args:
        model: changed in place, unless its opset has to be converted.
        target: the form.
        functions: give our nodes that remain their function bodies.
        facts: of the model, if they were looked up before.
        modified: whether the model was changed before, so that nobody asks whether it is now.
        keep: the names of nodes of ours that stay what they are where the target is `NormForm.DECOMPOSED`.

    Returns:
        The model, or a new one in another opset, and whether it says anything else than before.

    Raises:
        InputError: the opset cannot express it.
    """
    given = model
    if not any(True for _ in norm_nodes(model)):
        return ir.passes.PassResult(model, modified)
    before = None if modified else _said_of_ours(model)
    require_onnx_opset(model)
    if target is NormForm.STANDARD:
        _drop_functions(model)
        model = convert_opset(model, STANDARD_OPSET)
    facts = Facts(model) if facts is None or target in _PASSES else facts
    if not functions or target is NormForm.TENSORRT_PLUGIN:
        _annotate_calls(model, facts)
    if target in _PASSES:
        modified |= _written(model, target, facts, keep)
    if functions:
        if WidenMixedNorms()(model).modified:
            facts, modified = Facts(model), True
            if target in _PASSES:
                _written(model, target, facts, keep)
        modified |= FitScales(facts)(model).modified
        modified |= rename_inlined(model)
        if model.opset_imports[""] < CAST_LIKE_OPSET:  # the bodies name the type
            for x in (node.inputs[0] for node in norm_nodes(model)):
                if x is not None and x.type is None:
                    annotate(x, facts)
        _annotate_sums(model, facts)
        attach_functions(model)
    else:
        _drop_functions(model)
    import_domains(model)
    _forget_inputs(model)
    _forget_namesakes(model)
    return ir.passes.PassResult(model, modified or model is not given or _said_of_ours(model) != before)


def _written(model: ir.Model, target: NormForm, facts: Facts, keep: Set[str]) -> bool:
    """Run the pass of the target; whether it changed anything."""
    _annotate(model, facts)
    if target is NormForm.DECOMPOSED:
        for node in norm_nodes(model):
            node.meta[MISREAD] = may_be_misread(node, facts)
    make = partial(LowerToPrimitives, keep) if target is NormForm.DECOMPOSED else _PASSES[target]
    with proven_shapes(model, facts):
        return make()(model).modified


def _said_of_ours(model: ir.Model) -> tuple[object, ...]:
    """What is said of our ops besides their nodes: bodies and imports, and how many attributes the nodes have."""
    bodies = [ir.serde.serialize_function(f).SerializeToString(deterministic=True) for f in _bodies(model)]
    imports = [dict(model.opset_imports), *(dict(function.opset_imports) for function in model.functions.values())]
    return model.ir_version, bodies, imports, [len(node.attributes) for node in norm_nodes(model)]


def _bodies(model: ir.Model) -> list[ir.Function]:
    return [function for key, function in model.functions.items() if key[0] == DOMAIN and key[1] in OPS]


def _drop_functions(model: ir.Model) -> None:
    for function in _bodies(model):
        del model.functions[function.identifier()]


def _annotate(model: ir.Model, facts: Facts) -> None:
    """Write down types and shapes that the file leaves out: what a norm can become depends on them."""
    for node in norm_nodes(model):
        for value in (*node.inputs, *node.outputs):
            if value is not None:
                _write_down(value, facts)


def _annotate_sums(model: ir.Model, facts: Facts) -> None:
    """Write down the types of X and R: the body of a sum casts X to that of R where they differ, or may do so."""
    for node in norm_nodes(model):
        for value in node.inputs[:2] if OPS[node.op_type].is_add else ():
            if value is not None:
                annotate(value, facts)


def _annotate_calls(model: ir.Model, facts: Facts) -> None:
    """Write down what calls of local functions give: no one can infer it through an op that has no body."""
    if all(function.domain == DOMAIN for function in model.functions.values()):
        return
    for node in (node for graph in all_graphs([model.graph]) for node in graph):
        if node.op_identifier() in model.functions and node.domain != DOMAIN:
            for value in node.outputs:
                _write_down(value, facts)


def _forget_inputs(model: ir.Model) -> None:
    """Leave out the types of the inputs of functions: a file can hold them, and no reader looks at them."""
    for function in model.functions.values():
        for value in function.inputs:
            value.type = value.shape = None


def _forget_namesakes(model: ir.Model) -> None:
    """Declare nothing of a value whose name a value of another graph has: onnx's checker mixes them up."""
    graphs = list(all_graphs([model.graph]))
    if len(graphs) == 1:
        return
    values = [value for graph in graphs for node in graph for value in node.outputs]
    names = Counter(value.name for value in values)
    for value in values:
        if names[value.name] > 1 and not value.is_graph_output():
            value.type = value.shape = None


def _write_down(value: ir.Value, facts: Facts) -> None:
    annotate(value, facts)
    shape = facts.shape(value)
    if value.shape is None and shape is not None:
        value.shape = ir.Shape(shape)
