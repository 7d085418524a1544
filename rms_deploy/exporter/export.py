"""A torch module to an ONNX model in which each RMSNorm is one op, ONNX's own op, or primitives."""

from __future__ import annotations

from rms_deploy.ops import torch_check  # noqa: F401 - first: it says what is missing

# isort: split
import copy
import dataclasses
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Literal, get_args

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from rms_deploy.errors import InputError, one_line
from rms_deploy.exporter.decomposed import decomposed
from rms_deploy.exporter.model_source import current_folder_importable, resolve
from rms_deploy.exporter.module_tree import replaced
from rms_deploy.exporter.result import ExportResult, exported_norms
from rms_deploy.exporter.source import Source
from rms_deploy.exporter.swap import find_norms
from rms_deploy.exporter.torch_exporters import export_dynamo, export_legacy
from rms_deploy.fusion.passes.fuse_add_rms_norm import FuseAddRMSNorm
from rms_deploy.fusion.passes.fuse_float32_sum import FuseFloat32Sum
from rms_deploy.fusion.passes.fuse_gate import FuseGate
from rms_deploy.fusion.passes.fuse_shift import FuseShift
from rms_deploy.fusion.passes.lower_to_standard import STANDARD_OPSET, LowerToStandard
from rms_deploy.nn import RMSNorm
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.file import save_model
from rms_deploy.ops import functions
from rms_deploy.ops.contract import ELEMENT_TYPES
from rms_deploy.ops.forms import NormForm, norm_form
from rms_deploy.output_file import check_output

__all__ = ["DEFAULT_OPSET", "export"]

_FORMS: Final = (NormForm.FUSED, NormForm.STANDARD, NormForm.DECOMPOSED)
Exporter = Literal["dynamo", "legacy"]

DEFAULT_OPSET = 20

# Oldest and newest opset that each exporter writes for each form.
_OPSETS: Final[dict[tuple[str, NormForm], tuple[int, int]]] = {
    ("dynamo", NormForm.FUSED): (18, 25),
    ("dynamo", NormForm.STANDARD): (STANDARD_OPSET, 25),
    ("dynamo", NormForm.DECOMPOSED): (18, STANDARD_OPSET - 1),  # from 23 on, torch writes RMSNormalization by itself
    ("legacy", NormForm.DECOMPOSED): (14, 20),
}

_log = logging.getLogger(__name__)


@current_folder_importable()
def export(
    model: str | os.PathLike[str] | nn.Module,
    output: str | os.PathLike[str] | None = None,
    *,
    inputs: Any = None,
    dtype: str | None = None,
    opset: int | None = None,
    norm: str = NormForm.FUSED,
    model_norm: str | None = None,
    random_weights: bool = False,
    with_past: bool = False,
    swap: bool | None = None,
    dynamic: bool = True,
    dynamic_shapes: Any = None,
    output_names: Sequence[str] = (),
    exporter: Exporter = "dynamo",
) -> ExportResult:
    """Export `model`, its norms in the form asked for. `model` is left as it was.

    Those norms are the modules of `rms_deploy.nn`, and, with `swap`, the RMSNorm modules of torch and other libraries.
    In the fused form a residual Add before a norm becomes part of it (`AddRMSNorm`), and so does the gate of a
    `GatedRMSNorm`.

    Args:
        model: a module; a name of `rms_deploy.models.MODELS`; `package.module:factory`, where the factory returns a
            module or (module, inputs[, dynamic_shapes[, output_names]]); or a folder of Hugging Face, with config.json
            and safetensors. What a factory and the module import may lie in the current folder.
        output: file to write; None writes none.
        inputs: of one example call: a tensor, a tuple of positional arguments, or a dict of named ones.
        dtype: float32, float16 or bfloat16: parameters, buffers and floating inputs are converted to it; None leaves
            them as they are.
        opset: of the ONNX operators; default 20, or 23 for `norm="standard"`.
        norm: "fused": our op, its body in the model as a function. "standard": ONNX RMSNormalization where it can
            say the same, ours elsewhere, with a warning. "decomposed": primitives, as most model code spells it.
        model_norm: of a built-in model: "rmsnorm", "prmsnorm", "prmsnorm:P" with a fraction P, "layernorm" or "none";
            a factory gets it as `norm`. None: the factory is called without arguments.
        random_weights: of a folder: take the sizes of its config.json, and seeded random weights.
        with_past: of a folder: the key-value cache is among inputs and outputs, for prefill and decode in one file;
            see `exporter.cached_decoder`.
        swap: first put ours in the place of other RMSNorm modules, for this export only, where running them proves
            their convention; see `exporter.swap`. Default: unless `norm` is "decomposed".
        dynamic: whether sizes may vary; where no `dynamic_shapes` say which, axis 0 of each input ("batch"), and
            axis 1 of integer matrices and floating [batch, sequence, width] ("sequence").
        dynamic_shapes: as `torch.onnx.export` takes them.
        output_names: of the outputs, in order; default those of the factory, the keys of a dict, or "output".
        exporter: "dynamo", or "legacy" (TorchScript tracing), which knows only `norm="decomposed"`.

    Raises:
        InputError: an argument outside what is accepted, a module that fails on its own inputs.
        ExportError: torch refused the module.
        OutputError: `output` cannot be written.
    """
    form = norm_form(norm, argument="norm", accepted=_FORMS)
    opset = _checked(form, exporter, dtype, opset)
    if output is not None:
        check_output(output)
    if with_past and exporter == "legacy":
        raise InputError("the legacy exporter writes no key-value cache; use `exporter='dynamo'`")
    source = resolve(model, inputs, model_norm=model_norm, random_weights=random_weights, with_past=with_past)
    source = _converted(source, dtype)
    if swap is None:
        swap = form != NormForm.DECOMPOSED
    with _prepared(source.module, form, swap) as module, torch.no_grad():
        names = tuple(output_names) or source.output_names or _output_names(module, source.inputs)
        source = dataclasses.replace(source, module=module, output_names=names)
        shapes = (dynamic_shapes or source.dynamic_shapes or _guessed_shapes(source)) if dynamic else None
        run = export_dynamo if exporter == "dynamo" else export_legacy
        exported = run(source, opset=opset, dynamic_shapes=shapes)
    _forget_paths(exported)
    if form == NormForm.FUSED:
        _fuse_compositions(exported)
    if form == NormForm.STANDARD:
        LowerToStandard()(exported)
    functions.attach_functions(exported)
    if output is not None:
        save_model(exported, output)
    path = None if output is None else Path(output)
    return ExportResult(exported, path, exported_norms(exported), cached=source.cached)


def _fuse_compositions(model: ir.Model) -> None:
    """Make one op of each norm and what stands around it: what `rms_deploy.nn.composition` computes in torch."""
    facts = Facts(model, thorough=True)
    for fuse_part in (FuseShift, FuseAddRMSNorm, FuseFloat32Sum, FuseGate):
        fuse_part(facts)(model)


def _checked(norm: NormForm, exporter: str, dtype: str | None, opset: int | None) -> int:
    """The opset, once every choice is known to be one."""
    for name, value, accepted in (
        ("exporter", exporter, get_args(Exporter)),
        ("dtype", dtype, (None, *ELEMENT_TYPES)),
    ):
        if value not in accepted:
            raise InputError(f"{name} {value!r} is not supported; use {', '.join(a for a in accepted if a)}")
    if (exporter, norm) not in _OPSETS:
        raise InputError(
            f"the {exporter} exporter cannot write norm '{norm}'; use `norm='decomposed'` or `exporter='dynamo'`"
        )
    oldest, newest = _OPSETS[exporter, norm]
    chosen = min(max(DEFAULT_OPSET, oldest), newest) if opset is None else opset
    if not oldest <= chosen <= newest:
        raise InputError(f"opset {chosen} is not supported for norm '{norm}'; use {oldest} to {newest}")
    return chosen


def _converted(source: Source, dtype: str | None) -> Source:
    """The source in `dtype`; a copy of the module, unless it is our own."""
    if dtype is None:
        return source
    target: torch.dtype = getattr(torch, dtype)

    def cast(value: Any) -> Any:
        return value.to(target) if isinstance(value, Tensor) and value.is_floating_point() else value

    module = (source.module if source.own else copy.deepcopy(source.module)).to(target)
    return dataclasses.replace(source, module=module, inputs=pytree.tree_map(cast, source.inputs))


@contextmanager
def _prepared(module: nn.Module, norm: NormForm, swap: bool) -> Iterator[nn.Module]:
    """The module in eval mode with its norms as the export needs them; afterwards it is as before."""
    training = {child: child.training for child in module.modules()}
    with ExitStack() as stack:
        stack.callback(_restore, training)
        module.eval()
        if swap:
            norms, report = find_norms(module)
            for name, reason in report.kept.items():
                _log.warning("%s (%s): not swapped: %s", name, type(module.get_submodule(name)).__name__, reason)
            module = stack.enter_context(replaced(module, norms.get))
        module = stack.enter_context(replaced(module, decomposed if norm == NormForm.DECOMPOSED else _folded))
        yield module


def _restore(training: dict[nn.Module, bool]) -> None:
    for module, was in training.items():
        module.training = was


def _folded(module: nn.Module) -> nn.Module | None:
    """A norm whose weight holds its offset already, so that no node adds it at run time; None for other modules."""
    if not isinstance(module, RMSNorm) or not module.scale_offset or module.weight is None:
        return None
    twin, weight = copy.copy(module), nn.Parameter(module.scale().detach())
    twin._parameters = {**module._parameters, "weight": weight}
    # A scale that is given to `forward` still needs its offset.
    twin.scale = lambda given=None: weight if given is None else module.scale(given)  # type: ignore[method-assign]
    return twin


def _output_names(module: nn.Module, inputs: Any) -> tuple[str, ...]:
    """Names after one call: keys where the module gives a mapping or a dataclass, else output, output_1, ..."""
    try:
        result = module(**inputs) if isinstance(inputs, dict) else module(*inputs)
    except Exception as error:  # whatever the user's code raises
        raise InputError(f"{type(module).__name__}: fails on its example inputs: {one_line(error)}") from error
    # transformers 4 registers its outputs, which are dicts, without the names of their keys.
    leaves, _ = pytree.tree_flatten_with_path(dict(result) if isinstance(result, dict) else result)
    names = [_path_name(path) or "output" for path, leaf in leaves if isinstance(leaf, Tensor)]
    return tuple(name if names.index(name) == i else f"{name}_{names[:i].count(name)}" for i, name in enumerate(names))


def _path_name(path: tuple[Any, ...]) -> str:
    keys = [str(getattr(entry, "key", getattr(entry, "name", ""))) for entry in path]
    return "_".join(key for key in keys if key)


def _guessed_shapes(source: Source) -> Any:
    """The dynamic axes of each input, where nobody said which they are."""

    def guess(value: Any) -> dict[int, str] | None:
        if not isinstance(value, Tensor) or value.ndim == 0:
            return None
        sequence = value.ndim == 2 if not value.is_floating_point() else value.ndim == 3
        return {0: "batch", 1: "sequence"} if sequence else {0: "batch"}

    return pytree.tree_map(guess, source.inputs)


def _forget_paths(model: ir.Model) -> None:
    """Take out the stack traces that torch writes: they name files of this machine."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)
