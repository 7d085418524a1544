"""The ways in which `verify` runs a model: as the reference, as deployed, and in float64 as the truth."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import InlinePass

from rms_deploy.errors import RunError
from rms_deploy.onnx_model.file import load_model
from rms_deploy.onnx_model.fold_constants import FoldConstants
from rms_deploy.onnx_model.upcast import Upcast
from rms_deploy.ops.element_types import is_float
from rms_deploy.ops.functions import attach_functions
from rms_deploy.ops.nodes import norm_nodes
from rms_deploy.runtime import onnxruntime_session as runtime

__all__ = ["Runner", "candidate_runner", "engine_runner", "formula_runner", "reference_runner", "truth_runner"]

_Arrays = Mapping[str, NDArray[Any]]

_NO_KERNEL: Final = "Could not find an implementation"
_WIDE: Final[dict[ir.DataType, np.dtype[Any]]] = {
    ir.DataType.FLOAT: np.dtype(np.float32),
    ir.DataType.DOUBLE: np.dtype(np.float64),
}
_TRUTH_LIMIT: Final = 2**30
"""Bytes of weights in float64 above which there is no truth: it would need more memory than a proof is worth."""


@dataclass(frozen=True)
class Runner:
    """A model ready to run."""

    run: Callable[[_Arrays], dict[str, NDArray[Any]]]
    how: str
    upcast: ir.DataType | None = None
    """The float type that it runs in, where that is not its own."""

    def __call__(self, feeds: _Arrays) -> dict[str, NDArray[Any]]:
        """All outputs, by name.

        Raises:
            RunError: the runtime refuses the inputs, or a kernel fails.
        """
        if self.upcast is not None:
            wide = _WIDE[self.upcast]
            feeds = {n: a.astype(wide) if is_float(a.dtype) and a.dtype != wide else a for n, a in feeds.items()}
        try:
            return self.run(feeds)
        except RunError as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
            raise RunError(f"inputs {shapes} do not run: {error}") from error


def reference_runner(path: str | os.PathLike[str], model: ir.Model) -> Runner:
    """Unoptimised, with our ops as the functions that the model carries; in float32 where there is no kernel.

    Raises:
        RunError: ONNX Runtime refuses the model.
    """
    library = any(node.op_identifier() not in model.functions for node in norm_nodes(model))
    try:
        return _on_cpu(path, "as it is, unoptimised", optimize=False, library=library)
    except RunError as error:
        return _upcast_runner(path, error, optimize=False, library=library)


def candidate_runner(path: str | os.PathLike[str], *, library: bool) -> Runner:
    """Optimised, as it is deployed; in float32 where there is no kernel, so that at least its structure is proven.

    Raises:
        RunError: ONNX Runtime refuses the model.
    """
    try:
        how = "optimised, with our library" if library else "optimised, without our library"
        return _on_cpu(path, how, library=library)
    except RunError as error:
        return _upcast_runner(path, error, optimize=True, library=library)


def engine_runner(path: str | os.PathLike[str]) -> Runner:
    """An engine of TensorRT or TensorRT-RTX, on the GPU.

    Raises:
        RunError: there is no GPU, or TensorRT refuses the engine.
    """
    from rms_deploy.runtime import tensorrt_session as tensorrt

    return Runner(partial(tensorrt.run, tensorrt.session(path)), "as an engine")


def truth_runner(path: str | os.PathLike[str], model: ir.Model) -> tuple[Runner | None, str]:
    """The reference in float64, or in float32 if that is wider than its own type; and what it is, or why not."""
    if _too_large(model):
        return None, "none: the model is too large to run in float64"
    reason = ""
    for to in (ir.DataType.DOUBLE, ir.DataType.FLOAT):
        wide = _widened(path, to)
        if wide is None:
            break
        name = _WIDE[to].name
        try:
            how = f"the reference in {name}"
            return _on_cpu(wide, how, to, optimize=False, library=False), how
        except RunError as error:
            reason = reason or f"none: the reference does not run in {name}: {error}"
    return None, reason or "none: the reference is in float64"


def formula_runner(
    path: str | os.PathLike[str], model: ir.Model, truth: Runner | None, why_not: str
) -> tuple[Runner | None, str]:
    """The candidate as the truth runs: in float64, its norms as functions; and what is compared, or why nothing is.

    Args:
        path: of the candidate.
        model: the same, loaded.
        truth: of the reference, as `truth_runner` gives it.
        why_not: what that says of it.
    """
    if truth is None:
        return None, f"not compared: {why_not.removeprefix('none: ')}"
    if truth.upcast != ir.DataType.DOUBLE:
        return None, f"not compared: the reference does not run in float64, only as {truth.how}"
    if _too_large(model):
        return None, "not compared: the candidate is too large to run in float64"
    wide = _widened(path, ir.DataType.DOUBLE)
    if wide is None:
        return None, "not compared: the candidate is in float64"
    try:
        runner = _on_cpu(wide, "the candidate in float64", ir.DataType.DOUBLE, optimize=False, library=False)
    except RunError as error:
        return None, f"not compared: the candidate does not run in float64: {error}"
    return runner, "both in float64, unoptimised, norms inlined"


def _on_cpu(
    model: str | os.PathLike[str] | ir.Model,
    how: str,
    upcast: ir.DataType | None = None,
    *,
    library: bool,
    optimize: bool = True,
) -> Runner:
    session = runtime.session(model, optimize=optimize, library=library)
    return Runner(partial(runtime.run, session), how, upcast)


def _too_large(model: ir.Model) -> bool:
    weights = [v.const_value for v in model.graph.initializers.values() if v.const_value is not None]
    return sum(8 * tensor.size for tensor in weights) > _TRUTH_LIMIT


def _widened(path: str | os.PathLike[str], to: ir.DataType) -> ir.Model | None:
    """The model in type `to`, its constants rounded as it rounds them; None if it has nothing that is narrower."""
    model = load_model(path)
    if any(node.op_identifier() not in model.functions for node in norm_nodes(model)):
        attach_functions(model)
    InlinePass()(model)
    FoldConstants()(model)
    return model if Upcast(to)(model).modified else None


def _upcast_runner(path: str | os.PathLike[str], error: RunError, *, optimize: bool, library: bool) -> Runner:
    """The model in float32, if `error` says that a kernel is missing and there is something to upcast."""
    wide = load_model(path)
    if _NO_KERNEL not in str(error) or not Upcast(ir.DataType.FLOAT)(wide).modified:
        raise error
    how = "upcast to float32, as ONNX Runtime's CPU provider has no kernel"
    return _on_cpu(wide, how, ir.DataType.FLOAT, optimize=optimize, library=library)
