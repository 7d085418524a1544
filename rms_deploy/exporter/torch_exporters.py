"""One call of torch's ONNX exporters: quiet, with our ops translated, every failure one line."""

from __future__ import annotations

import inspect
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import nn
from torch.utils import _pytree as pytree

from rms_deploy.errors import ExportError, RmsDeployError, one_line
from rms_deploy.exporter.source import Source
from rms_deploy.ops import (
    schemas,
    torch_ops,  # noqa: F401 - torch_ops registers torch.ops.rms_deploy
)
from rms_deploy.ops.contract import (
    ADD_RMS_NORM,
    DOMAIN,
    ELEMENT_TYPES,
    PARTIAL_RMS_NORM,
    RMS_NORM,
    VERSION,
    Op,
    reciprocal,
)
from rms_deploy.ops.torch_check import missing

try:
    from onnxscript.values import Opset
except ModuleNotFoundError as error:
    raise missing(error) from error

__all__ = ["export_dynamo", "export_legacy"]


def export_dynamo(source: Source, *, opset: int, dynamic_shapes: Any) -> ir.Model:
    """Export with `torch.onnx.export(dynamo=True)`; `torch.ops.rms_deploy.*` become nodes of our domain.

    Raises:
        ExportError: torch refused.
    """
    schemas.register()
    positional, named = _arguments(source)
    with _one_line_errors(source.module), _quiet():
        program = torch.onnx.export(
            source.module,
            positional,
            kwargs=named,
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=dynamic_shapes,
            input_names=list(source.input_names) or None,
            output_names=list(source.output_names) or None,
            custom_translation_table=_translations(),
            verbose=False,
        )
    assert program is not None
    model: ir.Model = program.model
    return model


def export_legacy(source: Source, *, opset: int, dynamic_shapes: Any) -> ir.Model:
    """Export with `torch.onnx.export(dynamo=False)`, the TorchScript tracer. It does not know our ops.

    Raises:
        ExportError: torch refused; it takes dynamic shapes only as {axis: name} for each input.
    """
    positional, named = _arguments(source)
    names = list(inspect.signature(source.module.forward).parameters)
    shapes = (
        dynamic_shapes if isinstance(dynamic_shapes, dict) else dict(zip(names, dynamic_shapes or (), strict=False))
    )
    with tempfile.TemporaryDirectory() as folder, _one_line_errors(source.module), _quiet():
        path = Path(folder, "model.onnx")
        torch.onnx.export(
            source.module,
            positional,
            path,
            kwargs=named,
            dynamo=False,
            opset_version=opset,
            input_names=_flat_names(named or dict(zip(names, positional, strict=False))),
            output_names=list(source.output_names) or None,
            dynamic_axes=_flat_axes(shapes),
        )
        model = ir.load(path)
        ir.external_data.load_to_model(model)
    return model


def _flat_names(inputs: dict[str, Any]) -> list[str]:
    """The name of each tensor in `inputs` as the dynamo exporter writes it: past_0_key for past[0]["key"]."""
    paths, _ = pytree.tree_flatten_with_path(inputs)
    return ["_".join(str(getattr(entry, "key", getattr(entry, "idx", ""))) for entry in path) for path, _ in paths]


def _flat_axes(shapes: dict[str, Any]) -> dict[str, Any]:
    """The dynamic axes of each tensor that has some, by the same names: a dict whose keys are all axes."""
    flat: dict[str, Any] = {}
    for name, shape in shapes.items():
        if isinstance(shape, dict) and shape and all(isinstance(axis, int) for axis in shape):
            flat[name] = shape
        elif isinstance(shape, dict | list | tuple):
            entries = shape.items() if isinstance(shape, dict) else enumerate(shape)
            flat |= _flat_axes({f"{name}_{entry}": inner for entry, inner in entries})
    return flat


def _arguments(source: Source) -> tuple[tuple[Any, ...], dict[str, Any] | None]:
    return ((), source.inputs) if isinstance(source.inputs, dict) else (source.inputs, None)


def _translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Each torch op of ours, and the function that writes its ONNX node."""
    opset = Opset(DOMAIN, VERSION)

    def rms_norm(x: Any, scale: Any, *options: Any) -> Any:
        return _op(opset, RMS_NORM, *options)(x, scale, **_attributes(x, *options))

    def partial_rms_norm(x: Any, scale: Any, partial_size: int, *options: Any) -> Any:
        op = _op(opset, PARTIAL_RMS_NORM, *options)
        return op(x, scale, **_attributes(x, *options), partial_size=partial_size)

    def add_rms_norm(x: Any, residual: Any, scale: Any, *options: Any) -> Any:
        return _op(opset, ADD_RMS_NORM, *options)(x, residual, scale, **_attributes(x, *options), _outputs=2)

    return {
        torch.ops.rms_deploy.rms_norm.default: rms_norm,
        torch.ops.rms_deploy.partial_rms_norm.default: partial_rms_norm,
        torch.ops.rms_deploy.add_rms_norm.default: add_rms_norm,
    }


def _op(opset: Opset, op: Op, *options: Any) -> Callable[..., Any]:
    """What writes a node of `op`, or of its twin, as the `options` of the torch op say."""
    round_reciprocal = options[5:] == (True,)  # torch.export leaves out what is the default
    call: Callable[..., Any] = getattr(opset, (reciprocal(op) if round_reciprocal else op).name)
    return call


def _attributes(
    x: Any, axes: Sequence[int], epsilon: float, rms_epsilon: float, rms_min: float, round_before_scale: bool, *_: bool
) -> dict[str, Any]:
    return {
        "axes": tuple(axes),
        "epsilon": epsilon,
        "rms_epsilon": rms_epsilon,
        "rms_min": rms_min,
        "scale_type": int(x.dtype) if round_before_scale else ELEMENT_TYPES["float32"],
    }


@contextmanager
def _one_line_errors(module: nn.Module) -> Iterator[None]:
    try:
        yield
    except RmsDeployError:
        raise
    except Exception as error:  # torch's exporters let through whatever happens in tracing and translation
        text = one_line(_root_cause(error))
        if "DynamicCache" in text:
            text = (
                "its forward takes or returns a key-value cache; export it with use_cache=False in its config, "
                "or save it to a folder and export that with `with_past=True`"
            )
        raise ExportError(f"{type(module).__name__}: torch cannot export it: {text}") from error


def _root_cause(error: BaseException) -> BaseException:
    """The innermost error: torch wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what torch prints and warns of, unless the log level asks for it (`rms-deploy -v`)."""
    logger = logging.getLogger("torch")
    if logging.getLogger().isEnabledFor(logging.INFO):
        yield
        return
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
