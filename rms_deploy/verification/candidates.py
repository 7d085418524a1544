"""The models that `verify` compares, and how it runs them: as the reference, as deployed, and in float64."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.errors import InputError, RunError
from rms_deploy.onnx_model.file import open_model
from rms_deploy.onnx_model.signature import input_specs, output_specs
from rms_deploy.onnx_model.upcast import Upcast
from rms_deploy.ops.contract import OPS
from rms_deploy.ops.nodes import label, norm_nodes
from rms_deploy.runtime import onnxruntime_session as runtime
from rms_deploy.verification.memory import gib, return_freed
from rms_deploy.verification.wide import Wide, lacks_functions, wide_feeds, widened

__all__ = [
    "Candidate",
    "CandidateRun",
    "deployed_run",
    "endpoint_run",
    "engine_run",
    "formula_run",
    "reference_run",
    "truth_run",
]

_Arrays = Mapping[str, NDArray[Any]]

_NO_KERNEL: Final = "Could not find an implementation"


@dataclass(frozen=True)
class Candidate:
    """A model to compare, read once; the reference is one as well."""

    name: str
    """Its file, or the name of its graph."""
    model: ir.Model
    """Our own, in topological order. What runs in another type is a copy of it that shares its weights."""
    source: str | os.PathLike[str] | ir.Model
    """What ONNX Runtime loads: the file, where the external data lies beside it, or else `model`."""

    @classmethod
    def of(cls, source: str | os.PathLike[str] | onnx.ModelProto | ir.Model) -> Candidate:
        """Read a file, or copy a model that was given.

        Raises:
            ModelFileError: the file cannot be read.
        """
        model = open_model(source)
        if isinstance(source, str | os.PathLike):
            return cls(os.fspath(source), model, source)
        return cls(model.graph.name or "model", model, model)


@dataclass(frozen=True)
class CandidateRun:
    """A candidate that is ready to run."""

    run: Callable[[_Arrays], dict[str, NDArray[Any]]]
    how: str
    """In which form it runs, such as `as it is, unoptimised`."""
    upcast: ir.DataType | None = None
    """The float type that it runs in, where that is not its own."""
    wide: Wide | None = None
    """The model that runs, where that is one in a wider type."""
    in_float32: tuple[str, ...] = ()
    """Types of ops that have no kernel in float64."""

    def __call__(self, feeds: _Arrays) -> dict[str, NDArray[Any]]:
        """All outputs, by name.

        Raises:
            RunError: the runtime refuses the inputs, or a kernel fails.
        """
        if self.upcast is not None:
            feeds = wide_feeds(feeds, self.upcast)
        try:
            return self.run(feeds)
        except RunError as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
            raise RunError(f"inputs {shapes} do not run: {error}") from error


def reference_run(reference: Candidate) -> CandidateRun:
    """Unoptimised, with our ops as the functions that the model carries; in float32 where there is no kernel.

    Raises:
        RunError: ONNX Runtime refuses the model.
    """
    library = lacks_functions(reference.model)
    try:
        return _on_cpu(reference.source, "as it is, unoptimised", optimize=False, library=library)
    except RunError as error:
        _explain(reference, error)
        return _in_float32(reference.model, error, optimize=False, library=library)


def deployed_run(candidate: Candidate, *, library: bool) -> CandidateRun:
    """Optimised, as it is deployed; in float32 where there is no kernel, so that at least its structure is proven.

    Raises:
        RunError: ONNX Runtime refuses the model.
    """
    try:
        how = "optimised, with our library" if library else "optimised, without our library"
        return _on_cpu(candidate.source, how, library=library)
    except RunError as error:
        _explain(candidate, error)
        return _in_float32(candidate.model, error, optimize=True, library=library)


def engine_run(path: str | os.PathLike[str]) -> CandidateRun:
    """An engine of TensorRT or TensorRT-RTX, on the GPU.

    Raises:
        RunError: there is no GPU, or TensorRT refuses the engine.
    """
    from rms_deploy.runtime import tensorrt_session as tensorrt

    return CandidateRun(partial(tensorrt.run, tensorrt.session(path)), "as an engine")


def endpoint_run(url: str, reference: Candidate) -> CandidateRun:
    """A model that a server runs.

    Raises:
        InputError: `url` is no endpoint, or the server's model has other inputs or outputs than the reference.
        RunError: the server does not answer, or has no such model.
    """
    from rms_deploy.runtime import endpoint_session as endpoint

    session = endpoint.session(url)
    for kind, specs, served in (
        ("input", input_specs(reference.model), session.inputs),
        ("output", output_specs(reference.model), session.outputs),
    ):
        if set(specs) != set(served):
            raise InputError(
                f"the models' {kind}s differ: {', '.join(specs)} in {reference.name}, {', '.join(served)} at {url}; "
                "give the model that is served"
            )
    return CandidateRun(partial(endpoint.run, session), "by the server")


def truth_run(reference: Candidate, *, memory: float = math.inf) -> tuple[CandidateRun | None, str]:
    """The reference in float64; in float32, if it does not run in float64 and is in a half type.

    Args:
        reference: the model that is right.
        memory: bytes for its weights.

    Returns:
        What runs, and what it is; or None, and why there is none.
    """
    run, reason = _wide_run(reference.model, ir.DataType.DOUBLE, memory)
    if run is None:
        run, _ = _wide_run(reference.model, ir.DataType.FLOAT, memory)
    if run is None:
        return None, f"none: the reference {reason}"
    return run, f"the reference in {run.how}"


def formula_run(
    candidate: Candidate,
    truth: CandidateRun | None,
    why_not: str,
    *,
    cast_from: ir.Model | None = None,
    memory: float = math.inf,
) -> tuple[CandidateRun | None, str]:
    """The candidate as the truth runs: in float64, its norms as functions.

    Args:
        candidate: the model to prove.
        truth: the reference, as `truth_run` gives it.
        why_not: what `truth_run` says of it.
        cast_from: the reference, where the candidate is a cast of it: it then has the weights of the reference.
        memory: bytes for its weights.

    Returns:
        What runs, and what is compared; or None, and why nothing is.
    """
    if truth is None:
        return None, f"not compared: {why_not.removeprefix('none: ')}"
    if truth.upcast != ir.DataType.DOUBLE:
        return None, f"not compared: the reference does not run in float64, only as {why_not}"
    run, reason = _wide_run(candidate.model, ir.DataType.DOUBLE, memory, cast_from)
    if run is None:
        return None, f"not compared: the candidate {reason}"
    how = "both in float64, unoptimised, norms inlined"
    if cast_from is not None:
        alone = () if run.wide is None else run.wide.alone
        how += ", both with the weights of the reference"
        how += f" but for {', '.join(alone[:3])}{', ...' * (len(alone) > 3)}, not in the reference" if alone else ""
    narrow = sorted({*truth.in_float32, *run.in_float32})
    return run, how + (f", {' and '.join(narrow)} in float32" if narrow else "")


def _wide_run(
    model: ir.Model, to: ir.DataType, memory: float, cast_from: ir.Model | None = None
) -> tuple[CandidateRun | None, str]:
    """A copy in a wider type; or None, and why not."""
    wide = widened(model, to, cast_from=cast_from)
    name = to.numpy().name
    if to == ir.DataType.FLOAT and not wide.is_wider:
        return None, f"is in {name}"
    if wide.nbytes > memory:
        return None, f"needs {gib(wide.nbytes)} in {name} for its largest weight, and may take {gib(memory)}"
    try:
        run, in_float32 = wide.prepare()
    except RunError as error:
        return None, f"does not run in {name}: {error}"
    how = name + (f", {' and '.join(in_float32)} in float32" if in_float32 else "")
    return CandidateRun(run, how, to, wide, in_float32), ""


def _on_cpu(
    source: str | os.PathLike[str] | ir.Model,
    how: str,
    upcast: ir.DataType | None = None,
    *,
    library: bool,
    optimize: bool = True,
) -> CandidateRun:
    return_freed()
    session = runtime.session(source, optimize=optimize, library=library)
    return CandidateRun(partial(runtime.run, session), how, upcast)


def _explain(candidate: Candidate, error: RunError) -> None:
    """Say it, if another tool took an output from one of our ops: ONNX Runtime then refuses the model.

    Raises:
        RunError: one did.
    """
    for node in norm_nodes(candidate.model):
        for name, _ in OPS[node.op_type].outputs[len([value for value in node.outputs if value.name]) :]:
            raise RunError(
                f"{candidate.name}: node {label(node)} ({node.op_type}) has lost its {name} to another tool; "
                "`rms_deploy.fuse` mends the model"
            ) from error


def _in_float32(model: ir.Model, error: RunError, *, optimize: bool, library: bool) -> CandidateRun:
    """A copy in float32, if `error` says that a kernel is missing and there is something to upcast."""
    if _NO_KERNEL not in str(error):
        raise error
    wide = model.clone()
    if not Upcast(ir.DataType.FLOAT)(wide).modified:
        raise error
    how = "upcast to float32, as ONNX Runtime's CPU provider has no kernel"
    return _on_cpu(wide, how, ir.DataType.FLOAT, optimize=optimize, library=library)
