"""Proof that a model computes what another does: both run on the same inputs, and their results are compared."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.errors import InputError, RunError
from rms_deploy.onnx_model.inputs import MAGNITUDES, check_inputs, resolve_inputs
from rms_deploy.onnx_model.shapes import guess_advice
from rms_deploy.onnx_model.signature import require_same
from rms_deploy.runtime.endpoint import is_endpoint
from rms_deploy.runtime.engine_file import is_engine
from rms_deploy.verification.bisect import first_difference
from rms_deploy.verification.candidates import (
    Candidate,
    CandidateRun,
    deployed_run,
    endpoint_run,
    engine_run,
    formula_run,
    reference_run,
    truth_run,
)
from rms_deploy.verification.cast_inputs import cast_inputs, fitted
from rms_deploy.verification.check import Check
from rms_deploy.verification.checks import Limits, checks, per_output
from rms_deploy.verification.code_tolerance import Codes, codes_before_floats, tolerance_behind
from rms_deploy.verification.isolated import call_isolated
from rms_deploy.verification.memory import deployed_bytes, free_memory, gib
from rms_deploy.verification.parts import compare_parts, first_failed
from rms_deploy.verification.result import Verification
from rms_deploy.verification.tolerance import FORMULA_TOLERANCE, rounding, tolerance_for

__all__ = ["verify"]

_Feeds = Mapping[str, NDArray[Any]]


def verify(
    reference: str | os.PathLike[str] | onnx.ModelProto | ir.Model,
    candidate: str | os.PathLike[str] | onnx.ModelProto | ir.Model,
    *,
    inputs: str | os.PathLike[str] | _Feeds | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    rtol: float | Mapping[str, float] | None = None,
    atol: float | Mapping[str, float] | None = None,
    memory: float | None = None,
    library: bool = True,
    cast: bool = False,
    timeout: float | None = None,
) -> Verification:
    """Run both models on the same inputs and compare every output.

    The reference runs unoptimised, its norms decomposed; the candidate as it is deployed: optimised, with our
    library. Both are also compared with the truth, the reference in float64, which shows whether the candidate is
    further from it than the reference is. An output passes within `tolerance` of the reference. Where the reference
    itself is further than that from the truth, as where float16 sums of squares overflow, an output within `tolerance`
    of the truth passes too, and its note says so.

    In a half type rounding hides a wrong epsilon, and in a deep model a wrong scale. So both also run in float64,
    their norms as functions, and must agree to `FORMULA_TOLERANCE` there: as a whole, and in the parts between the
    values that both share (`compare_parts`). That proves the formula. It says nothing of the kernel, nor of the order
    of rounding and scaling: only the other comparison shows those. Weights are widened one at a time, so the size of a
    model is no limit; that of its largest weight is. A model that does not run in this way is compared by its numbers
    only: the result's `formula` says why, and `is_complete` is false.

    A candidate that `rms_deploy.cast` made, or another converter to a half type, is compared with `cast`. Its inputs
    and outputs may be of another float type: both models get the same numbers, rounded to the types of the candidate,
    and none that are tiny or huge. The formulas are compared with the weights of the reference in both, wherever the
    candidate has them rounded. The tolerance of the numbers is that of the half type, for two roundings at each of the
    candidate's operators: of its result, and of its weight.

    Where the models are not equal, `first_difference` is the first value in which they part.

    Args:
        reference: the model that is right: a file, a proto or an onnx-ir model. A given model is not changed.
        candidate: the model to prove, in the same forms; or an engine that was built from it, which needs a GPU; or
            the endpoint of a server that runs it, as grpc://host:port/model or http://host:port/model.
        inputs: an .npz file or arrays by name; default: random ones, in each magnitude of `random_inputs`.
        shapes: of inputs, by name.
        dims: sizes of named dynamic dimensions.
        seed: of the random inputs.
        tolerance: largest accepted relative L2 difference, in float64 too; default `tolerance_for` of the narrowest
            float type, behind quantisation `tolerance_behind`, and `FORMULA_TOLERANCE`.
        rtol: of each element: besides `tolerance`, |a - e| <= atol + rtol * |e| must hold. For all outputs, or by name.
        atol: as `rtol`.
        memory: bytes for the comparison: for weights, as deployed and in float64, and for the values at the cuts.
            Python, ONNX Runtime and activations take up to 1 GiB besides; pages of data files are not counted, as
            the system takes them back. Default: what is free, for the comparison in float64.
        library: run the candidate with our custom-op library.
        cast: the candidate is the reference in half precision.
        timeout: seconds after which it ends with an error, as a model may loop for ever. It then runs in a process of
            its own, where a crash of a runtime is an error too, and takes files or protos; None: in this process.

    Raises:
        InputError: the signatures differ, the inputs do not fit them, results differ in their shapes, or a model does
            not run in `memory`.
        ModelFileError: a file cannot be read.
        RunError: ONNX Runtime refuses a model, a server does not answer, or it did not end within `timeout`.
    """
    if timeout is not None:
        options: dict[str, Any] = {"inputs": inputs, "shapes": shapes, "dims": dims, "seed": seed}
        options |= {
            "library": library,
            "cast": cast,
            "tolerance": tolerance,
            "rtol": rtol,
            "atol": atol,
            "memory": memory,
        }
        return _isolated(reference, candidate, timeout=timeout, **options)
    if tolerance is not None and not tolerance >= 0:
        raise InputError(f"tolerance is {tolerance}; use 0 or more")
    if memory is not None and not memory > 0:
        raise InputError(f"memory is {memory}; use more than 0 bytes")
    right = Candidate.of(reference)
    place = candidate if isinstance(candidate, str | os.PathLike) and _has_no_graph(candidate) else None
    tested = right if place is not None else Candidate.of(candidate)
    if memory is not None:
        _require_memory(memory, right, tested)
    require_same(right.model, tested.model, any_float=cast)
    if cast and place is not None:
        raise InputError(f"{os.fspath(place)}: `cast` is for an ONNX model; give the cast model as the reference")
    given: dict[str, Any] = {"inputs": inputs, "shapes": shapes, "dims": dims, "seed": seed}
    if cast:
        feeds_by_kind = cast_inputs(right.model, tested.model, **given)
    else:
        feeds_by_kind = resolve_inputs(right.model, magnitudes=MAGNITUDES, **given)
        for feeds in feeds_by_kind.values():
            check_inputs(feeds, tested.model)
    elementwise = [per_output(name, limit, right.model) for name, limit in (("rtol", rtol), ("atol", atol))]
    advice = "" if inputs is not None else guess_advice(right.model, shapes=shapes, dims=dims)
    expected = _outputs(reference_run(right), feeds_by_kind, advice=advice)
    actual = _outputs(
        deployed_run(tested, library=library) if place is None else _run_at(place, right),
        {kind: fitted(feeds, tested.model) for kind, feeds in feeds_by_kind.items()},
    )
    memory = free_memory() if memory is None else memory
    truth, how_true = truth_run(right, memory=memory)
    if place is None:
        formula, how_formula = formula_run(
            tested, truth, how_true, cast_from=right.model if cast else None, memory=memory
        )
    else:
        formula, how_formula = None, f"not compared: {'a server' if is_endpoint(place) else 'an engine'} has no float64"
    dtype, depth = rounding(tested.model, upcast=None) if cast else rounding(right.model, upcast=actual.upcast)
    depth *= 2 if cast else 1
    codes = codes_before_floats(tested.model if cast else right.model)
    limits = Limits(
        tolerance_behind(codes, tolerance_for(dtype, depth)) if tolerance is None else tolerance,
        _formula_tolerance(truth, formula) if tolerance is None else tolerance,
        *elementwise,
    )
    found: list[Check] = []
    for kind, feeds in feeds_by_kind.items():
        true = {} if truth is None else truth(feeds)
        meant = {} if formula is None else formula(feeds)
        found += checks(kind, expected.by_kind[kind], actual.by_kind[kind], true, meant, limits)
    result = Verification(
        reference=right.name,
        candidate=tested.name if place is None else os.fspath(place),
        reference_run=expected.how,
        candidate_run=actual.how,
        truth=how_true,
        tolerance=limits.relative_l2,
        tolerance_origin=_origin(dtype, depth, codes) if tolerance is None else "given",
        formula=how_formula,
        formula_tolerance=limits.formula,
        shapes={name: array.shape for name, array in next(iter(feeds_by_kind.values())).items()},
        seed=seed,
        checks=tuple(found),
    )
    if truth is not None and formula is not None:
        feeds = next(iter(feeds_by_kind.values()))
        unequal = any(check.formula is not None and not check.formula.within(limits.formula) for check in found)
        parts = compare_parts(truth, formula, feeds, tolerance=limits.formula, are_unequal=unequal, memory=memory)
        result = replace(result, parts=parts, first_difference=first_failed(parts))
    if not result.passed and result.first_difference is None and place is None:
        feeds = feeds_by_kind[result.worst.kind]
        where = first_difference(right, tested, feeds, tolerance=limits.relative_l2, library=library)
        result = replace(result, first_difference=where)
    return result


def _isolated(*models: Any, timeout: float, **options: Any) -> Verification:
    """`verify` in a process of its own."""
    if not timeout > 0:
        raise InputError(f"timeout is {timeout}; use more than 0 seconds")
    if any(isinstance(model, ir.Model) for model in models):
        raise InputError("with `timeout` models are given as files or protos, not as onnx-ir models")
    result: Verification = call_isolated(__name__, "verify", *models, timeout=timeout, **options)
    return result


def _require_memory(memory: float, *models: Candidate) -> None:
    """Raises InputError if a model does not run in so many bytes, as it is deployed."""
    for model in models:
        needed = deployed_bytes(model.model)
        if memory < needed:
            raise InputError(
                f"`memory` is {gib(memory)}; ONNX Runtime needs about {gib(needed)} for the weights of {model.name} as "
                "it is deployed; give more"
            )


def _has_no_graph(candidate: str | os.PathLike[str]) -> bool:
    """Whether it only runs: an engine, or a model of a server."""
    return is_endpoint(candidate) or is_engine(candidate)


def _run_at(place: str | os.PathLike[str], reference: Candidate) -> CandidateRun:
    return endpoint_run(place, reference) if is_endpoint(place) else engine_run(place)


@dataclass(frozen=True)
class _Outputs:
    how: str
    upcast: ir.DataType | None
    by_kind: Mapping[str, _Feeds]


def _outputs(run: CandidateRun, feeds_by_kind: Mapping[str, _Feeds], *, advice: str = "") -> _Outputs:
    """Copies of all outputs for each kind of input. The session ends with this call, so that only one is in memory.

    What ONNX Runtime gives lies in the memory of the session, and would keep all of that.

    Raises:
        RunError: it does not run on these inputs; the message ends in `advice`.
    """
    try:
        by_kind = {kind: {n: a.copy() for n, a in run(feeds).items()} for kind, feeds in feeds_by_kind.items()}
    except RunError as error:
        raise RunError("; ".join(filter(None, (str(error), advice)))) from error
    return _Outputs(run.how, run.upcast, by_kind)


def _origin(dtype: np.dtype[Any], depth: int, codes: Codes) -> str:
    """Where the tolerance comes from."""
    text = f"4 eps({dtype.name}) sqrt({depth} roundings in a row)"
    return f"{text}, behind {codes.count} quantisation{'s in a row' * (codes.count > 1)}" if codes.count else text


def _formula_tolerance(*runs: CandidateRun | None) -> float:
    """`FORMULA_TOLERANCE`, or four times that where an op runs in float32.

    Such an op rounds numbers that differ by 2^-25, because of a constant, to ones that differ by 2^-23.
    """
    return FORMULA_TOLERANCE * (4 if any(run is not None and run.in_float32 for run in runs) else 1)
