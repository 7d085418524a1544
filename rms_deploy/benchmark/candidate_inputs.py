"""The inputs of each candidate: the same arrays wherever names and types allow it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Final

import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.benchmark.candidates import Candidate
from rms_deploy.benchmark.model_files import ModelFiles
from rms_deploy.benchmark.result import CandidateResult
from rms_deploy.benchmark.worker.inputs import write
from rms_deploy.onnx_model.inputs import check_inputs, random_inputs, resolve_inputs
from rms_deploy.onnx_model.shapes import guess_advice, resolve_shapes
from rms_deploy.onnx_model.signature import input_specs

__all__ = ["SweepStep", "candidate_inputs", "write_inputs"]

DOES_NOT_RUN: Final = "it does not run: "
"""How the failure of a candidate begins that refuses its inputs."""

_Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class SweepStep:
    """The inputs of all candidates for one combination of sizes."""

    dims: dict[str, int]
    """The sizes; none if there is no sweep."""
    inputs: list[_Arrays]
    """Of each candidate."""
    advice: str = ""
    """What to give where a candidate does not run with the sizes that were guessed; empty: none was."""

    def advised(self, results: Sequence[CandidateResult]) -> tuple[CandidateResult, ...]:
        """The results, each that does not run with the advice."""
        return tuple(
            replace(result, failure=f"{result.failure}; {self.advice}")
            if self.advice and (result.failure or "").startswith(DOES_NOT_RUN)
            else result
            for result in results
        )


def candidate_inputs(
    first: str,
    candidates: Sequence[Candidate],
    files: ModelFiles,
    *,
    inputs: str | os.PathLike[str] | Mapping[str, NDArray[Any]] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    sweep: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
) -> list[SweepStep]:
    """The inputs of each candidate. An input that has name and type of one of the first model gets the same array.

    Args:
        first: the file of the first model.
        candidates: whose inputs.
        files: reads their signatures.
        inputs: of the first model, as a file or arrays; default: random ones.
        shapes: of random inputs, by name.
        dims: sizes of named dynamic dimensions, for random inputs.
        sweep: several sizes of named dynamic dimensions; each combination is a step.
        seed: of random inputs.

    Raises:
        InputError: inputs and shapes are both given, or one does not fit a model.
        ModelFileError: a file cannot be read.
    """
    steps = []
    for sizes in product(*(sweep or {}).values()):
        step = dict(zip(sweep or {}, sizes, strict=True))
        resolved = resolve_inputs(files[first], inputs=inputs, shapes=shapes, dims={**(dims or {}), **step}, seed=seed)
        (given,) = resolved.values()
        advice = "" if inputs is not None else guess_advice(files[first], shapes=shapes, dims={**(dims or {}), **step})
        steps.append(SweepStep(step, _for_each(given, first, candidates, files, seed), advice))
    return steps


def _for_each(
    given: _Arrays, first: str, candidates: Sequence[Candidate], files: ModelFiles, seed: int
) -> list[_Arrays]:
    arrays = {first: given}
    for path in dict.fromkeys(candidate.signature for candidate in candidates if candidate.signature != first):
        model = files[path]
        own = random_inputs(model, _shapes_like(given, model), seed=seed)
        arrays[path] = {n: given[n] if n in given and given[n].dtype == a.dtype else a for n, a in own.items()}
        check_inputs(arrays[path], model)
    return [arrays[candidate.signature] for candidate in candidates]


def write_inputs(inputs: Sequence[_Arrays], folder: Path) -> list[dict[str, Any]]:
    """Write the inputs of each candidate, and say where its process finds them: in one file, if they are the same."""
    written: dict[tuple[tuple[str, int], ...], dict[str, Any]] = {}
    for arrays in inputs:
        if _key(arrays) not in written:
            written[_key(arrays)] = write(arrays, folder / f"inputs{len(written)}.npz")
    return [written[_key(arrays)] for arrays in inputs]


def _key(arrays: _Arrays) -> tuple[tuple[str, int], ...]:
    return tuple((name, id(array)) for name, array in arrays.items())


def _shapes_like(first: _Arrays, model: ir.Model) -> dict[str, tuple[int, ...]]:
    """The shapes of the model's inputs: those of the first model, where names are the same."""
    names = input_specs(model)
    return resolve_shapes(model, shapes={name: array.shape for name, array in first.items() if name in names})
